//! Evidence that a report carries beside its findings, so that a reader can judge it and compute it again.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The version of the report's JSON. Fields are added without a change of it; a field that is renamed or
/// means something else raises it.
pub const SCHEMA_VERSION: u32 = 2;

/// Manifest of what was compared, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of Lockstep.
    pub lockstep_version: String,
    /// Time at which the comparison ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// SHA-256 of the configuration, secrets masked, as JSON; filled in by who read it.
    pub configuration_sha256: Option<String>,
    /// One entry a table.
    pub tables: Vec<ManifestTable>,
}

/// Manifest of what was compared of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestTable {
    /// The table.
    pub name: String,
    /// The relation that was read.
    pub source: String,
    /// The DynamoDB table that was scanned.
    pub target: String,
    /// Settings that decide keys.
    pub layout: String,
    /// Columns, with the types they were read as.
    pub columns: Vec<String>,
    /// Segments of the scan.
    pub scan_segments: u64,
    /// Digests of both sides; `None` where they were not read to the end.
    pub digests: Option<Digests>,
}

/// Digests of all rows of both sides, in any order: the sum of the hashes of all rows, modulo 2¹²⁸, each
/// XXH3-128 of the row as its item, under a seed. The same rows under the same seed have the same digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// The seed, in hexadecimal.
    pub seed: String,
    /// Rows in the source's digest, expired ones included.
    pub source_rows: u64,
    /// The source's digest, in hexadecimal.
    pub source: String,
    /// Live items in the target's digest.
    pub target_rows: u64,
    /// The target's digest, in hexadecimal. Of consistent sides it may still differ from the source's where a
    /// document is written in two ways, or a row is past its expiry.
    pub target: String,
}

/// Time that one kind of query takes on both stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryLatency {
    /// The table.
    pub table: String,
    /// The kind of query.
    pub query: String,
    /// Number of times that it was asked of each store.
    pub samples: u64,
    /// Rows of one answer, on average.
    pub rows_mean: f64,
    /// Latencies of the source.
    pub source: Percentiles,
    /// Latencies of the target.
    pub target: Percentiles,
    /// Percent by which the median of the target is below that of the source; below zero it is slower.
    #[serde(default)]
    pub improvement_percent: Option<f64>,
}

impl QueryLatency {
    /// Returns it with its improvement, which it has where the source took any time.
    #[must_use]
    pub fn compared(self) -> Self {
        let (before, after) = (self.source.p50_ms, self.target.p50_ms);
        let improvement_percent = (before > 0.0).then(|| (before - after) / before * 100.0);
        Self { improvement_percent, ..self }
    }

    /// Returns the improvement in words.
    pub fn improvement(&self) -> String {
        match self.improvement_percent {
            None => "–".to_owned(),
            Some(percent) if percent < 0.0 => format!("{:.0} % slower", -percent),
            Some(percent) => format!("{percent:.0} % faster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medians_of_both_stores_are_held_against_each_other_in_percent() {
        let of = |source: f64, target: f64| {
            let median = |p50_ms| Percentiles { p50_ms, ..Percentiles::default() };
            let (source, target) = (median(source), median(target));
            QueryLatency { source, target, ..QueryLatency::default() }.compared().improvement()
        };
        assert_eq!(of(10.0, 6.5), "35 % faster");
        assert_eq!(of(10.0, 20.0), "100 % slower");
        assert_eq!(of(0.0, 1.0), "–");
    }
}

/// Percentiles of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50_ms: f64,
    /// 95th.
    pub p95_ms: f64,
    /// 99th.
    pub p99_ms: f64,
}

/// Lag of the target at one moment of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LagSample {
    /// Seconds since the comparison began.
    pub at_s: f64,
    /// The table.
    pub table: String,
    /// Keys that waited for delivery.
    pub pending: u64,
    /// Age of the oldest of them, in seconds.
    pub oldest_s: f64,
}

/// The export that a table was held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSeen {
    /// ARN of the export.
    pub arn: String,
    /// The moment whose items it has.
    pub at: DateTime<Utc>,
    /// Items in it, tombstones included.
    pub items: u64,
}
