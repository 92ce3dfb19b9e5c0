//! Policy of reads: which store answers, why, and how often (R5, R18).
//!
//! Words: the *policy* is what an operator may turn while the application runs; the *route* is what it says
//! of one read; the *standing* is how far the target is behind, as this instance last asked. A key is
//! *deferred* when a write of this instance has not reached the target.
//!
//! In reading order: `answer` (what a caller is told), `options`, `route` (pure), `deferred` (own writes),
//! `standing`, `owed` and `registry` (whose writes those are), `counters`, `shadow`.
//!
//! What is promised in HybridRead, where PostgreSQL is the truth and DynamoDB answers: an answer of the
//! target is at most [`ReadOptions::max_staleness_ms`] behind, it has every write that this handle has
//! acknowledged to its caller, and where either cannot be known the answer is marked
//! ([`ReadFrom::TargetAlone`]) or comes from the source.

mod answer;
mod counters;
mod deferred;
mod options;
mod owed;
mod registry;
mod route;
mod shadow;
mod standing;

pub use answer::{Answer, ReadFrom, SourceCause};
pub use counters::ReadCounts;
pub use options::{ReadOptions, Share};
pub use shadow::{Comparison, ShadowCounts, ShadowSummary};

pub(super) use owed::{Owed, Unheard};
pub(super) use registry::ReadsOfTables;
pub(super) use route::{Asked, ReadRoute, hash_of_place, hash_of_text};
pub(super) use shadow::Shadow;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use counters::Counters;
use lockstep_core::Phase;
use lockstep_postgres::{Source, TableBinding};
use route::Seen;
use standing::Watch;

use crate::central::Central;

/// The read policy of one store handle, and what it has counted. Cheap to clone; every clone is the same
/// policy.
#[derive(Clone)]
pub struct Reads(Arc<Inner>);

struct Inner {
    canary: AtomicU32,
    shadow_share: AtomicU32,
    watch: Arc<Watch>,
    counters: Counters,
    shadow: Shadow,
    central: Arc<Central>,
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads")
            .field("options", &self.options())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Reads {
    fn new(source: Source, binding: &TableBinding, central: Arc<Central>) -> Self {
        let options = ReadOptions::default();
        Self(Arc::new(Inner {
            canary: AtomicU32::new(options.canary_percent.basis_points()),
            shadow_share: AtomicU32::new(options.shadow_percent.basis_points()),
            watch: Arc::new(Watch::new(source, binding, &options, central.clone())),
            counters: Counters::new(binding.name()),
            shadow: Shadow::new(central.clone()),
            central,
        }))
    }

    /// Takes over all settings; reads that have been routed already are not touched.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, ReadOptions, Share, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// // As it is, but that no read is repeated.
    /// let options = ReadOptions { shadow_percent: Share::NONE, ..payments.reads().options() };
    /// payments.reads().configure(&options);
    /// # }
    /// ```
    pub fn configure(&self, options: &ReadOptions) {
        self.set_canary(options.canary_percent);
        self.set_shadow(options.shadow_percent);
        self.0.watch.configure(options);
    }

    /// The settings in force: what operators have set for every process, and else what was configured here.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// let in_force = payments.reads().options();
    /// println!("in HybridRead DynamoDB answers {} % of the keys", f64::from(in_force.canary_percent));
    /// # }
    /// ```
    pub fn options(&self) -> ReadOptions {
        let mut options = self.0.watch.options();
        options.canary_percent = Share::of_basis_points(self.canary());
        options.shadow_percent = Share::of_basis_points(self.shadow_share());
        options
    }

    fn canary(&self) -> u32 {
        self.0.central.canary().unwrap_or_else(|| self.0.canary.load(Ordering::Relaxed))
    }

    fn shadow_share(&self) -> u32 {
        self.0.central.shadow().unwrap_or_else(|| self.0.shadow_share.load(Ordering::Relaxed))
    }

    /// Sets the share of keys that HybridRead answers from the target. Which keys those are follows from the
    /// key alone, so every instance agrees and raising the share only adds keys.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Share, Store};
    /// # type Outcome = Result<(), Box<dyn std::error::Error>>;
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) -> Outcome {
    /// payments.reads().set_canary(Share::percent(5.0)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_canary(&self, share: Share) {
        self.0.canary.store(share.basis_points(), Ordering::Relaxed);
    }

    /// Sets the share of reads that are made on both stores and compared: of DualWrite's, and of those of
    /// HybridRead that the target answers.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Share, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// payments.reads().set_shadow(Share::ALL); // each read is then made twice
    /// # }
    /// ```
    pub fn set_shadow(&self, share: Share) {
        self.0.shadow_share.store(share.basis_points(), Ordering::Relaxed);
    }

    /// Counts of answers, by store and cause, since this handle was made.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// let counts = payments.reads().counts();
    /// println!("{} answers by DynamoDB, {} by PostgreSQL", counts.by_target(), counts.by_source());
    /// # }
    /// ```
    pub fn counts(&self) -> ReadCounts {
        self.0.counters.snapshot(self.0.watch.deferred.len())
    }

    /// Results of the shadow reads since this handle was made.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>) {
    /// let seen = payments.reads().shadow_summary();
    /// match &seen.last_difference {
    ///     Some(difference) => eprintln!("the stores differ: {difference}"),
    ///     None => println!("{} shadow reads agreed", seen.total().agree),
    /// }
    /// # }
    /// ```
    pub fn shadow_summary(&self) -> ShadowSummary {
        self.0.shadow.summary()
    }

    pub(super) fn shadow(&self) -> &Shadow {
        &self.0.shadow
    }

    /// Whether this read is one of the share that is repeated on the target.
    pub(super) fn is_shadowed(&self) -> bool {
        Share::of_basis_points(self.shadow_share()).draw()
    }

    /// Number of keys of the table that this process has written so far: what was read before the last of
    /// them may lack it.
    pub(super) fn writes(&self) -> u64 {
        self.0.watch.writes()
    }

    /// Longest time for which what was read of the target may be answered.
    pub(super) fn staleness_max(&self) -> Duration {
        Duration::from_millis(self.0.watch.bound_ms())
    }

    /// Counts an answer.
    pub(super) fn count(&self, from: ReadFrom) {
        self.0.counters.count(from);
    }

    /// Decides which store is to answer.
    ///
    /// Awaits only when what is known of the target is used up, at most about once in
    /// [`ReadOptions::max_staleness_ms`], and then no longer than a second.
    pub(super) async fn route(&self, phase: Phase, asked: Asked) -> ReadRoute {
        if phase != Phase::HybridRead {
            return route::outside_hybrid(phase);
        }
        let watch = &self.0.watch;
        let seen = match watch.look() {
            Seen::UsedUp => watch.refreshed().await,
            seen => seen,
        };
        let owed = watch.deferred.holds(asked);
        route::in_hybrid(seen, owed, asked, self.canary())
    }
}
