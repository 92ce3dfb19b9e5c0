//! One source transaction and what it changed, whatever the tables are.

use std::sync::Arc;

use lockstep_core::{Control, Item, Kind, Phase, Result, SourceKey, TargetKey, Unholdable};
use lockstep_dynamo::Target;
use lockstep_postgres::{
    KeysOfTable, Mark, MarkedKey, Source, SourceTransaction, TableBinding, TransactionId, begin_write,
    begin_write_in, id_assigned, id_under_way, is_under_way, left_under,
};

use crate::central::{Central, SetMode};
use crate::phase::{Moment, PhaseView};

use super::acknowledge::{Acknowledger, Beside, Started};
use super::counters::count;
use super::reads::{Owed, ReadsOfTables};
use super::route::{Calling, Route, route};
use super::target_truth::{IdBlocks, Retiring};
use super::{Delivery, ReadOptions, WriteCounters, WriteMode, WriteOptions};

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
}

/// A change of one key, to be put under the version that the capture trigger gave it.
pub(crate) struct Change {
    pub(super) binding: Arc<TableBinding>,
    pub(super) key: MarkedKey,
    pub(super) source_key: SourceKey,
    state: State,
}

/// The state that the target is to hold.
pub(crate) enum State {
    Row(std::result::Result<Item, Unholdable>),
    Gone,
}

/// A transaction behind the barrier, with the changes it has made so far.
pub(crate) struct WriteTransaction {
    pub(crate) sql: SourceTransaction,
    pub(crate) control: Control,
    /// Number of the transaction; `None` until it is known to have changed something.
    pub(super) id: Option<TransactionId>,
    pub(super) changes: Vec<Change>,
    /// Whether the changes become visible together in the target as well.
    pub(crate) together: bool,
    /// Rows that are being delivered beside it.
    pub(crate) beside: Started,
}

/// How a transaction that committed ended for each of its changes.
pub(crate) struct Written {
    pub(crate) control: Control,
    pub(crate) deliveries: Vec<Delivery>,
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

    /// How the tables of this writer are read, and what its writes owe them.
    pub(super) fn reads(&self) -> &ReadsOfTables {
        &self.shared.reads
    }

    /// Notes that reads of these changes go to the source until the target has them. To be called before
    /// anything leaves.
    pub(super) fn owe<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Owed {
        self.reads().owe(changes.map(|change| (change.key.table, change.source_key.clone())))
    }

    /// Whether tombstones go by themselves.
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

    pub(super) fn acknowledger(&self) -> &Acknowledger {
        &self.shared.acknowledger
    }

    /// Waits until what inline writes brought to the target so far has left the pending set, or was left to
    /// the relay. Writes themselves do not wait for that.
    ///
    /// # Cancel safety
    /// Waiting has no effect.
    pub async fn settled(&self) {
        self.shared.acknowledger.settled().await;
    }

    /// Whether both are the same one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Begins a transaction behind the barrier: its phase cannot change until it ends (I5). The phase that
    /// this process knows is only looked at again there; if it is over, or another, it is read.
    #[crate::boxed]
    pub(crate) async fn begin(&self) -> Result<WriteTransaction> {
        let begun = self.begin_behind_barrier().await;
        if begun.as_ref().is_err_and(|error| is_of_a_store(error.kind)) {
            self.central().count("", "write.failed");
        }
        let (sql, control, id) = begun?;
        let (changes, beside) = (Vec::new(), Started::default());
        Ok(WriteTransaction { sql, control, id, changes, together: false, beside })
    }

    async fn begin_behind_barrier(&self) -> Result<(SourceTransaction, Control, Option<TransactionId>)> {
        if let Some(believed) = self.phase().known.at(Moment::now())
            && let Some(sql) = begin_write_in(self.source(), believed.epoch).await?
        {
            return Ok((sql, believed, None));
        }
        let (sql, control, id) = begin_write(self.source()).await?;
        Ok((sql, control, Some(id)))
    }

    /// Commits, and brings the changes to the target as the phase and the settings say.
    ///
    /// # Errors
    /// Nothing was committed, or, with [`Kind::Unknown`](lockstep_core::Kind::Unknown), it is unknown whether
    /// it was (I8).
    ///
    /// # Cancel safety
    /// Dropped before the commit was sent, nothing is committed; what may be in the target by then has an
    /// intent. Dropped later, the keys are pending.
    #[crate::boxed]
    pub(crate) async fn finish(&self, write: WriteTransaction) -> Result<Written> {
        let written = match route(write.control.phase, self.mode(write.control.phase), Calling::Several) {
            Route::PutThenCommit if !write.changes.is_empty() => self.strict(write).await,
            _ => self.best_effort(write, None).await,
        };
        self.counted(written)
    }

    /// The same beside an operation: best effort in every phase.
    pub(super) async fn finish_beside(&self, write: WriteTransaction, beside: &Beside) -> Result<Written> {
        self.counted(self.best_effort(write, Some(beside)).await)
    }

    /// Counts how a write ended.
    pub(super) fn counted(&self, written: Result<Written>) -> Result<Written> {
        let counters = self.counters();
        match &written {
            Ok(written) => {
                count(&counters.committed, 1);
                let deferred =
                    written.deliveries.iter().filter(|d| matches!(d, Delivery::Deferred(_))).count();
                count(&counters.deferred, deferred);
                self.central().count("", "write.committed");
            }
            Err(error) if error.kind == Kind::Unknown => {
                count(&counters.unknown, 1);
                self.central().count("", "write.unknown");
            }
            Err(error) if is_of_a_store(error.kind) => self.central().count("", "write.failed"),
            Err(_) => {}
        }
        written
    }
}

/// Whether a write failed for a store, and not for what was to be written.
fn is_of_a_store(kind: Kind) -> bool {
    matches!(kind, Kind::Throttled | Kind::Unavailable | Kind::Busy | Kind::Fenced | Kind::Denied)
}

impl WriteTransaction {
    /// Its number; `None` where it has changed nothing.
    ///
    /// # Errors
    /// The driver's.
    pub(super) async fn number(&mut self) -> Result<Option<TransactionId>> {
        if self.id.is_none() {
            self.id = id_under_way(&mut self.sql).await?;
        }
        Ok(self.id)
    }

    /// Has it numbered, so that it can be told from another one, whatever is done in it.
    pub(crate) async fn numbered(mut self) -> Result<Self> {
        if self.id.is_none() {
            self.id = Some(id_assigned(&mut self.sql).await?);
        }
        Ok(self)
    }

    /// Whether it was not ended by a statement in it.
    pub(crate) async fn is_under_way(&mut self) -> Result<bool> {
        match self.id {
            Some(id) => is_under_way(&mut self.sql, id).await,
            None => Ok(true),
        }
    }

    /// The keys of all changes, taken out of them so that the transaction can be borrowed beside them.
    pub(super) fn keys(&self) -> Vec<MarkedKey> {
        self.changes.iter().map(|c| MarkedKey { table: c.key.table, key: c.key.key.clone() }).collect()
    }
}

/// Reads what the transaction of `changes` left under their keys, with the marks, after its last statement
/// (I14): a trigger, a cascade or a later statement may have changed a row since a statement returned it. One
/// question for all tables.
pub(super) async fn read_left(sql: &mut SourceTransaction, changes: &mut [Change]) -> Result<Vec<Mark>> {
    let mut bindings: Vec<Arc<TableBinding>> = Vec::new();
    for change in changes.iter() {
        if !bindings.iter().any(|table| table.name() == change.binding.name()) {
            bindings.push(change.binding.clone());
        }
    }
    let tables: Vec<KeysOfTable<'_>> = bindings
        .iter()
        .map(|table| {
            let of_table = changes.iter().enumerate().filter(|(_, change)| change.key.table == table.name());
            (table.as_ref(), of_table.map(|(of, change)| (of, change.key.key.as_str())).collect())
        })
        .collect();
    let found = left_under(sql, &tables).await?;
    let mut marks = Vec::with_capacity(found.len());
    for left in found {
        let table = changes[left.mark.of].binding.clone();
        let item = left.with_fields(|fields| table.table.encode(fields));
        changes[left.mark.of].state = item.map_or(State::Gone, State::Row);
        marks.push(left.mark);
    }
    Ok(marks)
}

impl Change {
    /// Notes that a key has a new state; returns its index among the deliveries. A key noted again keeps its
    /// index.
    pub(super) fn note(
        changes: &mut Vec<Self>,
        binding: &Arc<TableBinding>,
        key: SourceKey,
        state: State,
    ) -> usize {
        let marked = MarkedKey { table: binding.name(), key: key.to_json() };
        let known = changes.iter().position(|c| c.key.table == marked.table && c.source_key == key);
        let change = Self { binding: binding.clone(), key: marked, source_key: key, state };
        match known {
            Some(index) => {
                changes[index] = change;
                index
            }
            None => {
                changes.push(change);
                changes.len() - 1
            }
        }
    }

    /// What is to be put for `mark`.
    ///
    /// # Errors
    /// Why the target cannot hold it.
    pub(super) fn item(&self, mark: &Mark) -> std::result::Result<Item, Unholdable> {
        match &self.state {
            State::Row(item) => Ok(item.clone()?.at(mark.version)),
            State::Gone => {
                Ok(lockstep_core::tombstone(self.binding.table.target_key(&self.source_key)?, mark.version))
            }
        }
    }

    /// Whether the row is gone from this key and is, by another of `changes`, at the same place: two keys of
    /// one row may share one. Its tombstone would be put over the row; the mark is left to the relay, which
    /// knows.
    pub(super) fn is_put_by_another(&self, changes: &[Self]) -> bool {
        let Ok(place) = self.binding.table.target_key(&self.source_key) else { return false };
        let is_there = |other: &Self| match &other.state {
            State::Row(Ok(item)) => TargetKey::of(&item.clone().into_attributes()).as_ref() == Some(&place),
            _ => false,
        };
        self.is_gone() && changes.iter().any(|other| other.key.table == self.key.table && is_there(other))
    }

    /// Whether the row is gone from this key.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }
}
