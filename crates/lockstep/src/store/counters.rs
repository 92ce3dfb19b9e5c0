//! What became of writes, counted (R17, R18).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use lockstep_postgres::Swept;

/// Counters of the writes of one migration handle; they only grow.
#[derive(Debug, Default)]
pub struct WriteCounters {
    pub(super) committed: AtomicU64,
    pub(super) deferred: AtomicU64,
    pub(super) strict_committed: AtomicU64,
    pub(super) strict_continued: AtomicU64,
    pub(super) strict_failed: AtomicU64,
    pub(super) phantoms_possible: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) commits_looked_up: AtomicU64,
    pub(super) target_written: AtomicU64,
    pub(super) target_races_lost: AtomicU64,
    pub(super) target_looked_up: AtomicU64,
    swept_committed: AtomicU64,
    swept_aborted: AtomicU64,
    swept_forgotten: AtomicU64,
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
    /// What sweeps found; see [`Swept`].
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
            committed: self.committed.load(Relaxed),
            deferred: self.deferred.load(Relaxed),
            strict_committed: self.strict_committed.load(Relaxed),
            strict_continued: self.strict_continued.load(Relaxed),
            strict_failed: self.strict_failed.load(Relaxed),
            phantoms_possible: self.phantoms_possible.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            commits_looked_up: self.commits_looked_up.load(Relaxed),
            target_written: self.target_written.load(Relaxed),
            target_races_lost: self.target_races_lost.load(Relaxed),
            target_looked_up: self.target_looked_up.load(Relaxed),
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

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}
