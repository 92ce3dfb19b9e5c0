//! Counts of one table while it is being compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::progress::TableValidationProgress;
use crate::suspect::Found;
use crate::table_report::{FindingClass, RowFinding, TableReport};

/// The counters of one table. Shared by its passes, and what they hold survives a pass that is stopped.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    source_count: AtomicU64,
    target_count: AtomicU64,
    tombstones: AtomicU64,
    pending: AtomicU64,
    compared: AtomicU64,
    equal: AtomicU64,
    missing: AtomicU64,
    different: AtomicU64,
    extra: AtomicU64,
    undecodable: AtomicU64,
    expired: AtomicU64,
    accepted: AtomicU64,
    unsettled: AtomicU64,
    buckets: AtomicU64,
    buckets_differing: AtomicU64,
    rows_resumed: AtomicU64,
    rows_sampled: AtomicU64,
    items_sampled: AtomicU64,
    keys_changed: AtomicU64,
    /// Read units, in thousandths.
    read_units: AtomicU64,
    findings: Mutex<Vec<RowFinding>>,
    findings_max: usize,
}

/// End of one source row, or of one item without a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Row and item say the same.
    Equal,
    /// The row is past its expiry and its item is gone.
    Expired,
    /// There is nothing to compare any more, or the key is a dead letter, which is counted where they are
    /// kept.
    Aside,
    /// The source stays without this state of the item, as an operator has accepted. It is a dead letter.
    Accepted,
    /// It waits for delivery, and no relay delivers.
    Pending,
    /// The stores disagree, or could not be compared.
    Found(Found),
}

impl Tally {
    pub(crate) fn new(findings_max: usize) -> Self {
        Self { findings_max, ..Self::default() }
    }

    pub(crate) fn count_source(&self, rows: u64) {
        self.source_count.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn count_target(&self, live: u64, tombstones: u64) {
        self.target_count.fetch_add(live, Ordering::Relaxed);
        self.tombstones.fetch_add(tombstones, Ordering::Relaxed);
    }

    /// Counts rows that a pass found equal, or expired, at first sight.
    pub(crate) fn count_compared(&self, equal: u64, expired: u64) {
        self.compared.fetch_add(equal + expired, Ordering::Relaxed);
        self.equal.fetch_add(equal, Ordering::Relaxed);
        self.expired.fetch_add(expired, Ordering::Relaxed);
    }

    /// Counts rows that an earlier run of the same validation read.
    pub(crate) fn count_resumed(&self, rows: u64) {
        self.rows_resumed.store(rows, Ordering::Relaxed);
    }

    /// Counts what a sample has chosen.
    pub(crate) fn count_sampled(&self, rows: u64, items: u64) {
        self.rows_sampled.fetch_add(rows, Ordering::Relaxed);
        self.items_sampled.fetch_add(items, Ordering::Relaxed);
    }

    /// Counts keys that an incremental pass looks at.
    pub(crate) fn count_changed(&self, keys: u64) {
        self.keys_changed.fetch_add(keys, Ordering::Relaxed);
    }

    /// Counts what a reading of the target cost.
    pub(crate) fn count_read_units(&self, units: f64) {
        self.read_units.fetch_add((units * 1_000.0) as u64, Ordering::Relaxed);
    }

    /// Counts buckets of the ledger, and those whose entries had to be read again.
    pub(crate) fn count_buckets(&self, all: u64, differing: u64) {
        self.buckets.fetch_add(all, Ordering::Relaxed);
        self.buckets_differing.fetch_add(differing, Ordering::Relaxed);
    }

    /// Counts what became of a suspect. `of_row`: it was a source row that made it one, so it counts as
    /// compared.
    pub(crate) fn record(&self, outcome: Outcome, of_row: bool, progress: &TableValidationProgress) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match outcome {
            Outcome::Equal if of_row => self.count_compared(1, 0),
            Outcome::Expired if of_row => self.count_compared(0, 1),
            Outcome::Equal | Outcome::Expired | Outcome::Aside => {}
            Outcome::Accepted => add(&self.accepted),
            Outcome::Pending => add(&self.pending),
            Outcome::Found(found) => {
                let class = found.finding.class;
                if of_row && found.compared {
                    add(&self.compared);
                }
                add(match class {
                    FindingClass::Missing => &self.missing,
                    FindingClass::Different => &self.different,
                    FindingClass::Extra => &self.extra,
                    FindingClass::Undecodable | FindingClass::Foreign => &self.undecodable,
                    FindingClass::Unsettled => &self.unsettled,
                });
                add(&progress.findings);
                let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
                if findings.len() < self.findings_max {
                    findings.push(found.finding);
                }
            }
        }
    }

    pub(crate) fn compared(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Returns the counters as a report; what only the end of a validation knows is left for it to fill in.
    pub(crate) fn report(&self, name: &str) -> TableReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        findings.sort_by(|a, b| (a.class, &a.key).cmp(&(b.class, &b.key)));
        TableReport {
            source_count: read(&self.source_count),
            target_count: read(&self.target_count),
            tombstones: read(&self.tombstones),
            pending: read(&self.pending),
            compared: read(&self.compared),
            equal: read(&self.equal),
            missing: read(&self.missing),
            different: read(&self.different),
            extra: read(&self.extra),
            undecodable: read(&self.undecodable),
            expired: read(&self.expired),
            accepted: read(&self.accepted),
            unsettled: read(&self.unsettled),
            buckets: read(&self.buckets),
            buckets_differing: read(&self.buckets_differing),
            rows_resumed: read(&self.rows_resumed),
            rows_sampled: read(&self.rows_sampled),
            items_sampled: read(&self.items_sampled),
            keys_changed: read(&self.keys_changed),
            read_units: read(&self.read_units) as f64 / 1_000.0,
            findings,
            ..TableReport::of(name)
        }
    }
}
