//! What a validation found. The JSON form is stable: fields are added, never renamed.

use std::fmt;

use chrono::{DateTime, Utc};
use lockstep_core::{FieldDiff, Phase};
use serde::{Deserialize, Serialize};

use crate::evidence::{Digests, LagSample, Manifest, QueryLatency};
use crate::options::Sample;
use crate::quality::{Quality, SumCheck};
use crate::verdict::Verdict;

/// Everything that one validation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What it all comes to. In JSON: `verdict` and `reasons`, beside the other fields.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// When it began, by the clock of the machine that ran it.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
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
    /// What was chosen, if it was a sample and not everything.
    #[serde(default)]
    pub sample: Option<Sample>,
    /// Whether only what changed since the full pass was compared.
    #[serde(default)]
    pub incremental: bool,
    /// One entry a table.
    pub tables: Vec<TableReport>,
    /// See [`SCHEMA_VERSION`](crate::SCHEMA_VERSION). A report without it is of the first version.
    #[serde(default = "first_version")]
    pub schema_version: u32,
    /// What was compared, so that it can be computed again.
    #[serde(default)]
    pub manifest: Manifest,
    /// How far the target was behind meanwhile; filled in by who watched.
    #[serde(default)]
    pub lag: Vec<LagSample>,
    /// How long queries take on both stores; filled in where that was measured.
    #[serde(default)]
    pub latency: Vec<QueryLatency>,
}

impl Report {
    /// Whether all rows of all days were compared. A verdict of a window is good for that window only, one of a sample for
    /// what it chose, so no gate may take it for more.
    pub fn is_whole(&self) -> bool {
        self.window_start.is_none() && self.window_end.is_none() && self.sample.is_none()
    }

    /// The oldest reading of all tables together; see [`TableReport::as_of`].
    pub fn as_of(&self) -> Option<DateTime<Utc>> {
        self.tables.iter().filter_map(|table| table.as_of).min()
    }

    /// The same without any value: what may be stored with the migration and passed on.
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

    /// Findings of all tables together.
    pub fn findings_total(&self) -> u64 {
        self.tables.iter().map(TableReport::findings_total).sum()
    }
}

fn first_version() -> u32 {
    1
}

/// What was found of one table.
///
/// The classes exclude each other: a source row ends in one of `equal`, `missing`, `different`, `undecodable`, `expired`
/// and `unsettled`, or it is pending or a dead letter, or it went away meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table.
    pub name: String,
    /// Rows of the source, counted at the start.
    pub source_count: u64,
    /// Live items of the target, counted while scanning; never `ItemCount`, which is hours old.
    pub target_count: u64,
    /// Tombstones of the target.
    pub tombstones: u64,
    /// Keys waiting for delivery at the end; at least as many as the suspects that were not compared because they waited.
    pub pending: u64,
    /// Dead letters at the end.
    pub dead_letters: u64,
    /// Those of them that nobody has acknowledged.
    pub dead_letters_unacknowledged: u64,
    /// Source rows that were compared to the end: equal, missing, different, expired, or with an item that does not decode.
    pub compared: u64,
    /// Rows whose item says the same.
    pub equal: u64,
    /// Rows without an item.
    pub missing: u64,
    /// Rows whose item says something else.
    pub different: u64,
    /// Items without a row.
    pub extra: u64,
    /// Rows and items that do not decode, and items that Lockstep did not write.
    pub undecodable: u64,
    /// Rows past their expiry whose item is gone: retention, not loss.
    pub expired: u64,
    /// Keys that did not come to rest within the settle time-out.
    pub unsettled: u64,
    /// Buckets that the rows and items were summed up in.
    #[serde(default)]
    pub buckets: u64,
    /// Buckets whose sums differed, so that their entries were compared one by one.
    #[serde(default)]
    pub buckets_differing: u64,
    /// When the oldest reading may have been made, by the source's clock: what went wrong before it, and was not put right
    /// since, was found; what went wrong later may have been overlooked. Of a run that went on after it was killed, this is
    /// the beginning of the first part. `None` where nothing was read.
    #[serde(default)]
    pub as_of: Option<DateTime<Utc>>,
    /// Until when changes were looked at. Of a full pass this is [`TableReport::as_of`]. Of an incremental one it is when that
    /// began, while `as_of` stays with the full pass: what is not captured, nobody has looked for since.
    #[serde(default)]
    pub verified_as_of: Option<DateTime<Utc>>,
    /// The number of the pass whose readings these are.
    #[serde(default)]
    pub pass: Option<i64>,
    /// Keys that an incremental pass looked at.
    #[serde(default)]
    pub keys_changed: u64,
    /// Rows that an earlier part of this run had read.
    #[serde(default)]
    pub rows_resumed: u64,
    /// Rows that a sample chose.
    #[serde(default)]
    pub rows_sampled: u64,
    /// Items that a sample chose.
    #[serde(default)]
    pub items_sampled: u64,
    /// Read units that the scan took, where the endpoint tells; of an earlier part of this run it is not known.
    #[serde(default)]
    pub read_units: f64,
    /// What the data itself is worth; `None` where nobody asked, or the run was broken off.
    #[serde(default)]
    pub quality: Option<Quality>,
    /// What both sides come down to; `None` where they were not read to the end.
    #[serde(default)]
    pub digests: Option<Digests>,
    /// The first findings, up to the number asked for.
    pub findings: Vec<Finding>,
    /// Whether both passes and the recheck came to their end.
    pub complete: bool,
    /// Why not, and what was not compared.
    pub failure: Option<String>,
}

impl TableReport {
    /// A table of which nothing has been compared.
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Keys on which the stores disagree or may disagree.
    pub fn findings_total(&self) -> u64 {
        self.missing + self.different + self.extra + self.undecodable + self.unsettled
    }
}

/// One key on which the stores disagree. Of row values it holds what the table reveals, unless more was asked for (R36).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub class: FindingClass,
    /// The source key as a JSON array of literals; of an item that has none, its target key.
    pub key: String,
    /// Whether `key` is a whole source key, so that the relay can write it anew.
    #[serde(default)]
    pub is_source_key: bool,
    /// Columns and attributes that differ or do not decode.
    pub columns: Vec<String>,
    /// How each of them differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDiff>,
}

impl Finding {
    /// The source key, a literal a column, if it has one.
    pub fn source_key(&self) -> Option<Vec<String>> {
        self.is_source_key.then(|| serde_json::from_str(&self.key).ok()).flatten()
    }
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingClass {
    /// A row has no item.
    Missing,
    /// A row's item says something else.
    Different,
    /// An item has no row.
    Extra,
    /// A row cannot be held by the target and is no dead letter, or an item is not a row of this table.
    Undecodable,
    /// An item without a version: Lockstep did not write it. Counted as undecodable.
    Foreign,
    /// A key that did not come to rest, so that it could not be compared.
    Unsettled,
}

impl fmt::Display for FindingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Extra => "extra",
            Self::Undecodable => "undecodable",
            Self::Foreign => "foreign",
            Self::Unsettled => "unsettled",
        })
    }
}
