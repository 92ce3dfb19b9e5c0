//! Findings of a validation. The JSON form is stable: fields are added, never renamed.

use chrono::{DateTime, Utc};
use lockstep_core::{FieldDiff, Phase};
use serde::{Deserialize, Serialize};

use crate::evidence::{LagSample, Manifest, QueryLatency};
use crate::options::Sample;
use crate::quality::SumCheck;
use crate::table_report::TableReport;
use crate::verdict::Verdict;

/// Everything that one validation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Verdict of the comparison. In JSON: `verdict` and `reasons`, beside the other fields.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Time at which it began, by the clock of the machine that ran it.
    pub started_at: DateTime<Utc>,
    /// Length of the run, in seconds.
    pub duration_s: f64,
    /// The phase it was made in; `None` where there is no migration, or it could not be read.
    pub phase: Option<Phase>,
    /// The epoch it was made in. A verdict of an earlier epoch says nothing of this one.
    pub epoch: Option<i64>,
    /// Start of the window that was compared, if it was not everything.
    #[serde(default)]
    pub window_start: Option<DateTime<Utc>>,
    /// End of it.
    #[serde(default)]
    pub window_end: Option<DateTime<Utc>>,
    /// Sample that was chosen, if it was not everything.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// Whether only what changed since the full pass was compared.
    #[serde(default)]
    pub incremental: bool,
    /// Whether exports of the target were read instead of it. Then `as_of` is when they were made.
    #[serde(default)]
    pub from_export: bool,
    /// Whether the seed of its digests was given. A program that knows it can make rows that differ and
    /// have one print.
    #[serde(default)]
    pub seed_given: bool,
    /// The number that was drawn before its first reading, the lowest of all tables: of a run that was
    /// resumed, that of its first part. A finding that was recorded under a higher one is not answered by it.
    /// `None` where the source draws none; no gate takes such a report.
    #[serde(default)]
    pub began: Option<i64>,
    /// One entry a table.
    pub tables: Vec<TableReport>,
    /// See [`SCHEMA_VERSION`](crate::SCHEMA_VERSION). A report without it is of the first version.
    #[serde(default = "first_version")]
    pub schema_version: u32,
    /// Description of what was compared, so that it can be computed again.
    #[serde(default)]
    pub manifest: Manifest,
    /// Distance of the target behind the source meanwhile; filled in by the watching process.
    #[serde(default)]
    pub lag: Vec<LagSample>,
    /// Latencies of queries on both stores; filled in where they were measured.
    #[serde(default)]
    pub latency: Vec<QueryLatency>,
}

impl Report {
    /// Tells whether all rows of all days were compared with the target itself. A verdict of a window is good
    /// for that window only, one of a sample for what it chose, one of an export for the time before it, and
    /// one under a seed that was given for rows that were not made for it, so no gate may take it for more.
    pub fn is_whole(&self) -> bool {
        let of_all_days = self.window_start.is_none() && self.window_end.is_none();
        of_all_days && self.sample.is_none() && !self.from_export && !self.seed_given
    }

    /// Tells whether nothing was found, and not everything was compared, because a store could not be reached
    /// or failed.
    pub fn is_cut_short(&self) -> bool {
        let is_open = matches!(self.verdict, Verdict::Incomplete { .. });
        is_open && self.tables.iter().any(|table| table.store_failed)
    }

    /// Tells whether it found that the stores differ, wherever it looked. A key that has not come to rest is
    /// no difference.
    pub fn is_found(&self) -> bool {
        self.findings_total() > self.tables.iter().map(|table| table.unsettled).sum()
    }

    /// Returns the same with `most` findings listed for each table; all stay counted.
    #[must_use]
    pub fn shortened(mut self, most: usize) -> Self {
        self.tables.iter_mut().for_each(|table| table.findings.truncate(most));
        self
    }

    /// Returns the oldest reading of all tables together; see [`TableReport::as_of`].
    pub fn as_of(&self) -> Option<DateTime<Utc>> {
        self.tables.iter().filter_map(|table| table.as_of).min()
    }

    /// Returns the same without any value: what may be stored with the migration and passed on.
    #[must_use]
    pub fn without_values(mut self) -> Self {
        for finding in self.tables.iter_mut().flat_map(|table| &mut table.findings) {
            finding.fields = std::mem::take(&mut finding.fields).into_iter().map(FieldDiff::masked).collect();
        }
        for quality in self.tables.iter_mut().filter_map(|table| table.quality.as_mut()) {
            quality.sums = std::mem::take(&mut quality.sums).into_iter().map(SumCheck::masked).collect();
        }
        self
    }

    /// Returns the lowest number of its tables; none where one of them has none.
    pub(crate) fn lowest(tables: &[TableReport]) -> Option<i64> {
        tables.iter().map(|table| table.began).min().flatten()
    }

    /// Items of all tables together whose state the source stays without, as an operator has accepted.
    pub fn accepted(&self) -> u64 {
        self.tables.iter().map(|table| table.accepted).sum()
    }

    /// Findings of all tables together.
    pub fn findings_total(&self) -> u64 {
        self.tables.iter().map(TableReport::findings_total).sum()
    }
}

fn first_version() -> u32 {
    1
}
