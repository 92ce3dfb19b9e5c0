//! Outcomes of writes, counted (R17, R18): for a caller that asks the handle, and as
//! `lockstep_write_outcomes_total` for the recorder of metrics that the application has, if it has one (R47).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use lockstep_postgres::Swept;

use super::change::Change;

/// Counters of the writes of one migration handle; they only grow.
#[doc(hidden)]
#[derive(Debug)]
pub struct WriteCounters {
    pub(super) committed: Counter,
    pub(super) deferred: Counter,
    pub(super) strict_committed: Counter,
    pub(super) strict_continued: Counter,
    pub(super) strict_failed: Counter,
    pub(super) phantoms_possible: Counter,
    pub(super) unknown: Counter,
    pub(super) commits_looked_up: Counter,
    pub(super) target_written: Counter,
    pub(super) target_races_lost: Counter,
    pub(super) target_looked_up: Counter,
    swept_committed: AtomicU64,
    swept_aborted: AtomicU64,
    swept_forgotten: AtomicU64,
}

/// One of them, and its labels as a metric. `any` as mode counts a write once, whatever else counts a part of
/// it.
#[derive(Debug)]
pub(super) struct Counter {
    mode: &'static str,
    outcome: &'static str,
    counted: AtomicU64,
}

impl Counter {
    const fn new(mode: &'static str, outcome: &'static str) -> Self {
        Self { mode, outcome, counted: AtomicU64::new(0) }
    }

    fn get(&self) -> u64 {
        self.counted.load(Relaxed)
    }
}

impl Default for WriteCounters {
    fn default() -> Self {
        Self {
            committed: Counter::new("any", "committed"),
            deferred: Counter::new("best_effort", "deferred"),
            strict_committed: Counter::new("strict", "committed"),
            strict_continued: Counter::new("strict", "continued"),
            strict_failed: Counter::new("strict", "failed"),
            phantoms_possible: Counter::new("strict", "phantom_possible"),
            unknown: Counter::new("any", "unknown"),
            commits_looked_up: Counter::new("any", "looked_up"),
            target_written: Counter::new("dynamo_only", "committed"),
            target_races_lost: Counter::new("dynamo_only", "race_lost"),
            target_looked_up: Counter::new("dynamo_only", "looked_up"),
            swept_committed: AtomicU64::default(),
            swept_aborted: AtomicU64::default(),
            swept_forgotten: AtomicU64::default(),
        }
    }
}

/// [`WriteCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WriteCounts {
    /// Write transactions that committed, in any mode.
    pub committed: u64,
    /// States that were left to a relay.
    pub deferred: u64,
    /// Strict write transactions that both stores have.
    pub strict_committed: u64,
    /// Strict writes that were made best effort because their put failed.
    pub strict_continued: u64,
    /// Strict writes that failed because their put did.
    pub strict_failed: u64,
    /// Failed strict writes of which something may be in the target until it is repaired.
    pub phantoms_possible: u64,
    /// Writes whose outcome could not be learnt.
    pub unknown: u64,
    /// Commits whose answer was lost and that were looked up.
    pub commits_looked_up: u64,
    /// Writes of DynamoOnly, each with all its items, that the target holds.
    pub target_written: u64,
    /// Writes of DynamoOnly that another was faster than, and that were tried again.
    pub target_races_lost: u64,
    /// Answers of DynamoOnly that were lost and looked up.
    pub target_looked_up: u64,
    /// Intents that sweeps found committed; see [`Swept`].
    pub swept_committed: u64,
    /// See [`Swept::aborted`].
    pub swept_aborted: u64,
    /// See [`Swept::forgotten`].
    pub swept_forgotten: u64,
}

impl WriteCounters {
    /// All of them now.
    pub fn snapshot(&self) -> WriteCounts {
        WriteCounts {
            committed: self.committed.get(),
            deferred: self.deferred.get(),
            strict_committed: self.strict_committed.get(),
            strict_continued: self.strict_continued.get(),
            strict_failed: self.strict_failed.get(),
            phantoms_possible: self.phantoms_possible.get(),
            unknown: self.unknown.get(),
            commits_looked_up: self.commits_looked_up.get(),
            target_written: self.target_written.get(),
            target_races_lost: self.target_races_lost.get(),
            target_looked_up: self.target_looked_up.get(),
            swept_committed: self.swept_committed.load(Relaxed),
            swept_aborted: self.swept_aborted.load(Relaxed),
            swept_forgotten: self.swept_forgotten.load(Relaxed),
        }
    }

    pub(crate) fn add_swept(&self, swept: &Swept) {
        self.swept_committed.fetch_add(swept.committed, Relaxed);
        self.swept_aborted.fetch_add(swept.aborted, Relaxed);
        self.swept_forgotten.fetch_add(swept.forgotten, Relaxed);
    }
}

/// Label of a write of several tables, which is one write: counted under each of them, the sum over tables
/// would say that there were more. No table of a migration has this name, as it is no name of a table there.
const SEVERAL: &str = "(several)";
/// Label of a write that changed no row.
const NO_ROW: &str = "(none)";

/// Returns the label of a write of rows of these tables.
pub(super) fn label(tables: impl IntoIterator<Item = &'static str>) -> &'static str {
    let mut tables = tables.into_iter();
    let Some(first) = tables.next() else { return NO_ROW };
    if tables.all(|table| table == first) { first } else { SEVERAL }
}

/// Returns the label of a write that made these changes.
pub(super) fn label_of(changes: &[Change]) -> &'static str {
    label(changes.iter().map(|change| change.key.table))
}

/// Counts what happened `by` times to a write under this [`label`].
pub(super) fn count(counter: &Counter, table: &'static str, by: usize) {
    counter.counted.fetch_add(by as u64, Relaxed);
    if by > 0 {
        metrics::counter!(
            "lockstep_write_outcomes_total",
            "table" => table, "mode" => counter.mode, "outcome" => counter.outcome
        )
        .increment(by as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_counted_under_its_table_and_one_of_several_once() {
        assert_eq!(label([]), NO_ROW);
        assert_eq!(label(["payments"]), "payments");
        assert_eq!(label(["payments", "payments"]), "payments");
        assert_eq!(label(["payments", "logs", "payments"]), SEVERAL);
    }
}
