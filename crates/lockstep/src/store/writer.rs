//! The parts that the writes of one migration share: drivers, settings, counters, and the ids and debts of
//! this process.

use std::sync::Arc;

use lockstep_core::{Control, Kind, MigratableTable, Phase, Result, SourceKey};
use lockstep_dynamo::Target;
use lockstep_postgres::Source;

use crate::central::{Central, SetMode};
use crate::phase::PhaseView;

use super::acknowledge::{Acknowledger, Held};
use super::change::Change;
use super::counters::count;
use super::ids::IdBlocks;
use super::newness::Newness;
use super::outcome::Written;
use super::reads::{Owed, ReadsOfTables, Unheard};
use super::retiring::Retiring;
use super::route::{Calling, Route, route};
use super::{Delivery, ReadOptions, Store, WriteCounters, WriteMode, WriteOptions};

/// The writer of the stores of one migration: the stores' drivers, the settings, the counters. Cheap to
/// clone.
//
// Hidden, as what can be made of it (a phase to go by, a handle on stores that are connected already) is for
// Lockstep's own crates and tests; what an application asks of it, its migration answers.
#[doc(hidden)]
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    target: Target,
    options: WriteOptions,
    phase: PhaseView,
    counters: WriteCounters,
    reads: ReadsOfTables,
    acknowledger: Acknowledger,
    ids: IdBlocks,
    retiring: Retiring,
    newness: Newness,
}

impl Writer {
    /// A writer. Nothing is sent yet.
    #[doc(hidden)]
    pub fn new(source: Source, target: Target, options: WriteOptions) -> Self {
        let phase = PhaseView::following(source.clone(), &target);
        Self::with_phase(source, target, options, phase)
    }

    /// A writer that goes by the phase of an [`Instance`](crate::instance::Instance).
    #[doc(hidden)]
    pub fn with_phase(source: Source, target: Target, options: WriteOptions, phase: PhaseView) -> Self {
        Self {
            shared: Arc::new(Shared {
                source,
                target,
                options,
                counters: WriteCounters::default(),
                reads: ReadsOfTables::new(phase.central.clone()),
                phase,
                acknowledger: Acknowledger::default(),
                ids: IdBlocks::default(),
                retiring: Retiring::default(),
                newness: Newness::default(),
            }),
        }
    }

    /// The source.
    pub(crate) fn source(&self) -> &Source {
        &self.shared.source
    }

    /// The target.
    pub(crate) fn target(&self) -> &Target {
        &self.shared.target
    }

    /// The settings.
    pub fn options(&self) -> &WriteOptions {
        &self.shared.options
    }

    /// The mode of writes in this phase, as operators have set it, or else as configured.
    pub(super) fn mode(&self, phase: Phase) -> Option<WriteMode> {
        let set = self.central().mode(phase).map(|mode| match mode {
            SetMode::BestEffort => WriteMode::BestEffort,
            SetMode::Strict => WriteMode::Strict,
        });
        set.or(self.options().mode(phase))
    }

    /// The settings that operators have turned, and the counts that they are told.
    pub(crate) fn central(&self) -> &Central {
        &self.shared.phase.central
    }

    /// The phase that this instance believes in.
    pub fn phase(&self) -> &PhaseView {
        &self.shared.phase
    }

    /// Says how stores made from now on read.
    pub(crate) fn configure_reads(&self, options: ReadOptions) {
        self.reads().configure(options);
    }

    /// The reads of this writer's tables, and the debts of its writes to them.
    pub(super) fn reads(&self) -> &ReadsOfTables {
        &self.shared.reads
    }

    /// The way of a call in the phase of `control`, by the mode in force there.
    pub(super) fn route(&self, control: Control, calling: Calling) -> Route {
        route(control, self.mode(control.phase), calling)
    }

    /// Notes that reads of these changes go to the source until the target has them. To be called before
    /// anything leaves.
    pub(super) fn owe<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Owed {
        self.owe_keys(changes.map(|change| (change.key.table, change.source_key.clone())))
    }

    /// The debt of keys whose states are not known.
    pub(super) fn owe_keys(&self, keys: impl Iterator<Item = (&'static str, SourceKey)>) -> Owed {
        self.reads().owe(keys)
    }

    /// A write of a table that is about to be sent, and of whose keys nothing is known before its answer.
    pub(super) fn unheard(&self, table: &'static str) -> Unheard {
        self.reads().unheard(table)
    }

    /// The guess of each table's rows, whether they are mostly new.
    pub(super) fn newness(&self) -> &Newness {
        &self.shared.newness
    }

    /// The record's answer to whether tombstones go by themselves.
    pub(super) fn retiring(&self) -> &Retiring {
        &self.shared.retiring
    }

    /// Ids that this process has taken for itself.
    pub(super) fn ids(&self) -> &IdBlocks {
        &self.shared.ids
    }

    /// Counts of the outcomes of writes so far.
    pub fn counters(&self) -> &WriteCounters {
        &self.shared.counters
    }

    /// Lets what the target holds be taken out of the pending set.
    pub(crate) fn acknowledge(&self, held: Vec<Held>) {
        for held in held {
            self.shared.acknowledger.held(self.source(), held);
        }
    }

    /// Waits until what inline writes brought to the target so far has left the pending set, or was left to
    /// the relay. Writes themselves do not wait for that.
    ///
    /// # Cancel safety
    /// Waiting has no effect.
    pub async fn acknowledged(&self) {
        self.shared.acknowledger.acknowledged().await;
    }

    /// Makes sure that `store` writes through this writer. One of another migration handle writes to other
    /// stores, perhaps in another phase.
    ///
    /// # Panics
    /// When it does not, which is a mistake in the program.
    pub(crate) fn require_own<T: MigratableTable>(&self, store: &Store<T>) {
        assert!(
            Arc::ptr_eq(&self.shared, &store.shared.writer.shared),
            "I5: the store of {} is of another migration handle",
            T::NAME
        );
    }

    /// Counts how a write of `table`, a label, ended.
    pub(super) fn counted(&self, table: &'static str, written: Result<Written>) -> Result<Written> {
        let counters = self.counters();
        match &written {
            Ok(written) => {
                count(&counters.committed, table, 1);
                let deferred =
                    written.deliveries.iter().filter(|d| matches!(d, Delivery::Deferred(_))).count();
                count(&counters.deferred, table, deferred);
                self.central().count("", "write.committed");
            }
            Err(error) if error.kind == Kind::Unknown => {
                count(&counters.unknown, table, 1);
                self.central().count("", "write.unknown");
            }
            Err(error) if is_of_a_store(error.kind) => self.central().count("", "write.failed"),
            Err(_) => {}
        }
        written
    }
}

/// Says whether a write failed for a store, and not for what was to be written.
pub(super) fn is_of_a_store(kind: Kind) -> bool {
    matches!(kind, Kind::Throttled | Kind::Unavailable | Kind::Busy | Kind::Fenced | Kind::Denied)
}
