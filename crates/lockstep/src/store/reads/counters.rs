//! Counting answers by store and cause, also as the metric `lockstep_reads_total` (R47).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::answer::{ReadFrom, SourceCause};

/// Counters of one table that many readers add to.
pub(super) struct Counters {
    table: &'static str,
    target: AtomicU64,
    target_alone: AtomicU64,
    source: [AtomicU64; SourceCause::ALL.len()],
}

/// Number of reads that were answered, by store. A query counts once for each store that answered a part of
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadCounts {
    /// Answers by the target.
    pub target: u64,
    /// Answers by the target while the source did not say how far it is behind.
    pub target_alone: u64,
    /// Answers by the source, because the phase says so.
    pub source_phase: u64,
    /// Answers by the source, outside the canary share.
    pub source_canary: u64,
    /// Answers by the source, because a write of this instance was deferred.
    pub source_deferred: u64,
    /// Answers by the source, because more writes were deferred than are remembered.
    pub source_deferred_overflow: u64,
    /// Answers by the source, because the target was too far behind.
    pub source_stale: u64,
    /// Answers by the source, because the target lacks rows that it cannot hold.
    pub source_dead_letters: u64,
    /// Answers by the source, because the target did not have it.
    pub source_miss: u64,
    /// Answers by the source, because the target failed.
    pub source_error: u64,
    /// Keys whose write by this instance is deferred right now.
    pub deferred_keys: u64,
}

impl Counters {
    pub(super) fn new(table: &'static str) -> Self {
        Self {
            table,
            target: AtomicU64::default(),
            target_alone: AtomicU64::default(),
            source: Default::default(),
        }
    }

    pub(super) fn count(&self, from: ReadFrom) {
        let counter = match from {
            ReadFrom::Target => &self.target,
            ReadFrom::TargetAlone => &self.target_alone,
            ReadFrom::Source(cause) => &self.source[cause as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let (store, cause) = match from {
            ReadFrom::Target => ("dynamodb", "fresh"),
            ReadFrom::TargetAlone => ("dynamodb", "alone"),
            ReadFrom::Source(cause) => ("postgresql", cause.name()),
        };
        metrics::counter!("lockstep_reads_total", "table" => self.table, "store" => store, "cause" => cause)
            .increment(1);
    }

    pub(super) fn snapshot(&self, deferred_keys: usize) -> ReadCounts {
        let of = |cause: SourceCause| self.source[cause as usize].load(Ordering::Relaxed);
        ReadCounts {
            target: self.target.load(Ordering::Relaxed),
            target_alone: self.target_alone.load(Ordering::Relaxed),
            source_phase: of(SourceCause::Phase),
            source_canary: of(SourceCause::Canary),
            source_deferred: of(SourceCause::Deferred),
            source_deferred_overflow: of(SourceCause::DeferredOverflow),
            source_stale: of(SourceCause::Stale),
            source_dead_letters: of(SourceCause::DeadLetters),
            source_miss: of(SourceCause::Miss),
            source_error: of(SourceCause::Error),
            deferred_keys: deferred_keys as u64,
        }
    }
}

impl ReadCounts {
    /// Answers of the target, known to be fresh or not.
    ///
    /// ```
    /// use lockstep::store::reads::ReadCounts;
    ///
    /// let counts = ReadCounts { target: 90, target_alone: 10, ..ReadCounts::default() };
    /// assert_eq!(counts.by_target(), 100);
    /// ```
    pub fn by_target(&self) -> u64 {
        self.target + self.target_alone
    }

    /// Answers of the source, whatever the cause.
    ///
    /// ```
    /// use lockstep::store::reads::ReadCounts;
    ///
    /// let counts = ReadCounts { source_miss: 3, source_stale: 2, ..ReadCounts::default() };
    /// assert_eq!(counts.by_source(), 5);
    /// ```
    pub fn by_source(&self) -> u64 {
        self.source_phase
            + self.source_canary
            + self.source_deferred
            + self.source_deferred_overflow
            + self.source_stale
            + self.source_dead_letters
            + self.source_miss
            + self.source_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_counter_of_its_own() {
        let counters = Counters::new("payments");
        for (times, cause) in (1..).zip(SourceCause::ALL) {
            (0..times).for_each(|_| counters.count(ReadFrom::Source(cause)));
        }
        counters.count(ReadFrom::Target);
        let counts = counters.snapshot(3);
        assert_eq!((counts.source_phase, counts.source_miss, counts.source_error), (1, 7, 8));
        assert_eq!((counts.by_source(), counts.by_target(), counts.deferred_keys), (36, 1, 3));
    }
}
