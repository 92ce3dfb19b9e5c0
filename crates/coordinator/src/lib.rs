//! The coordinator: plans, checks, moves the initial load, delivers changes, and changes the phase of all
//! tables at once.
//!
//! Words: a *gate* is a check that may refuse a step; a *range* is a piece of a table by primary key, a
//! *chunk* what one statement reads of it, the *watermark* the key up to which everything is finished; the
//! *relay* delivers pending keys.
//!
//! Read the modules in this order; each names only those before it, which a test keeps. Values at the bottom:
//! `gate`, `loss`, `error`, `import_options`, `watch`, `feed_options`, [`options`](Options),
//! `alike`, `journal`, `remedy` and `planned` (what a repair of the state does, and was to do), `lanes` and
//! `rate` (requests at once, units a second), `strain` (a busy source),
//! `progress`, `feed_alarm`; `plan` (pure decisions); `estimate` and `spent` (hours, units and dollars,
//! beforehand and since); `waves` (one migration after another), `records`, `asked` and `continuity`
//! (what both stores say);
//! `outage` (waiting for a store that is away), `foreign_index`; then what works: `import`, `backfill`,
//! `relay`, [`truth`] (the flips), `reverse_feed`, `instances`, `moving` (to DynamoOnly and back);
//! `test_operation`, `canary`, `canary_choice`, `canary_bound` and `canary_rows`, `latency`,
//! `latency_bound` and `rehearsal`;
//! `doctor`, `gates`, `found` (what a search finds), `deletions`, `repair_rows`, `orphans`, `status`, `step`,
//! `complete`, `uninstall`; `coordinator` (composes them), `worker` (one of many that move the initial load)
//! and `repair_state` (what the doctor proposes).
//!
//! This crate names no concrete table.

mod alike;
mod asked;
mod backfill;
mod canary;
mod canary_bound;
mod canary_choice;
mod canary_rows;
mod complete;
mod continuity;
mod coordinator;
mod deletions;
mod doctor;
mod error;
mod estimate;
mod feed_alarm;
mod feed_options;
mod foreign_index;
mod found;
mod gate;
mod gates;
mod import;
mod import_options;
mod instances;
mod journal;
mod lanes;
mod latency;
mod latency_bound;
mod loss;
mod moving;
mod options;
mod orphans;
mod outage;
mod plan;
mod planned;
mod progress;
mod rate;
mod records;
mod rehearsal;
mod relay;
mod remedy;
mod repair_rows;
mod repair_state;
mod reverse_feed;
mod spent;
mod status;
mod step;
mod strain;
mod test_operation;
pub mod truth;
mod uninstall;
mod watch;
mod waves;
mod worker;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate
// above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use alike::{Alike, alike, first_of, grouped};
pub use asked::silence;
pub use backfill::BackfillSummary;
pub use canary::CanaryRead;
pub use canary_bound::canary_reads_of_binding;
pub use canary_rows::{canary_reads_of, canary_reads_with_indexes};
pub use complete::{
    Archive, Completion, Dropped, PurgeOptions, PurgeProgress, Purged, Unprotected, complete, drop_source,
    purge,
};
pub use continuity::{lost_history, turn as keep_continuity};
pub use coordinator::Coordinator;
pub use deletions::Deletion;
pub use doctor::{
    AtWork, CaptureSeen, ColumnsSeen, Diagnosis, ExpirySeen, Finding, Observation, Severity, TableSeen,
    TargetSeen, Unread, VerdictSeen, examine, left_out, observe, plan as remedies,
};
pub use error::{CoordinatorError, Result};
pub use estimate::{
    Assumptions, COUNTED_PAGES_MAX, Estimate, ItemSample, Largest, LoadCost, LoadPathEstimate, LoadTook,
    Mean, PhaseEstimate, PlanOptions, Saving, TableFacts, estimate, load_took,
};
pub use feed_options::ReverseFeedOptions;
pub use found::record_found;
pub use gate::{GateReport, GateResult, Observer};
pub use gates::ready;
pub use import_options::ImportOptions;
pub use instances::{InstanceEnd, InstanceWait};
pub use latency::measure_latency;
pub use latency_bound::LATENCY_PERCENTILES;
pub use loss::{Continuity, Found, Loss, TableContinuity, losses};
pub use moving::{PausePart, PauseSummary};
pub use options::{
    BackfillOptions, LoadPathChoice, MigrationContext, Options, RangesChoice, RelayOptions, StepOptions,
};
pub use orphans::{OnlyIn, Orphan, Orphans, find_orphans, repair_orphans};
pub use outage::Outage;
pub use plan::{Range, load_path, split};
pub use progress::{Progress, TableProgress, each_once};
pub use records::refuse_a_second;
pub use rehearsal::Rehearsal;
pub use relay::{RelaySummary, RelayUntil, relay};
pub use remedy::Remedy;
pub use repair_rows::{Repairable, Repaired, Repairs, Unrepairable, find_repairs, repair, repairs_of};
pub use repair_state::{RowsTaken, StateRepaired, planned as planned_remedies, repair_state, take_target};
pub use reverse_feed::{
    Drained, FeedProgress, FeedSummary, FeedTableProgress, FeedTableSummary, FeedUntil, Renumbered,
    ReverseBackfill, drained, keep_feeding, renumber_foreign, reverse_backfill, reverse_feed,
};
pub use spent::Spent;
pub use status::{Status, TableStatus, status, status_of_source};
pub use step::StepOutcome;
pub use test_operation::{TestCheck, TestReport, test_operation};
pub use uninstall::{Uninstall, UninstallOptions, uninstall};
pub use watch::Watch;
pub use waves::{claim, require_current};
pub use worker::{WorkOptions, WorkSummary, WorkedTable, work};

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::Phase;
    use tokio_util::sync::CancellationToken;

    fn assert_send<T: Send>(_: &T) {}

    /// An embedding application spawns these futures; that they can be is part of the interface. Compiling is
    /// the test.
    #[allow(dead_code)]
    fn long_running_calls_can_be_spawned(
        coordinator: &Coordinator,
        migration: &MigrationContext,
        cancel: &CancellationToken,
    ) {
        assert_send(&coordinator.backfill(cancel));
        assert_send(&coordinator.step(Phase::DualWrite, None, &()));
        assert_send(&coordinator.prepare(&()));
        assert_send(&relay(migration, RelayUntil::Empty, &coordinator.progress(), cancel));
        assert_send(&Coordinator::open(migration.clone()));
        let options = WorkOptions { name: String::new(), stay: false };
        assert_send(&work(migration.clone(), &options, &coordinator.progress(), &(), cancel));
    }
}
