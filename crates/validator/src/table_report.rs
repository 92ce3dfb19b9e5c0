//! Findings of a validation in one table. The JSON form is stable: fields are added, never renamed.

use std::fmt;

use chrono::{DateTime, Utc};
use lockstep_core::FieldDiff;
use serde::{Deserialize, Serialize};

use crate::evidence::{Digests, ExportSeen};
use crate::quality::Quality;

/// Findings in one table.
///
/// The classes exclude each other: a source row ends in one of `equal`, `missing`, `different`,
/// `undecodable`, `expired` and `unsettled`, or it is pending or a dead letter (`accepted` are some of
/// those), or it went away meanwhile.
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
    /// Keys waiting for delivery at the end; at least as many as the suspects that were not compared because
    /// they waited.
    pub pending: u64,
    /// Dead letters at the end.
    pub dead_letters: u64,
    /// Those of them that no operator has acknowledged.
    pub dead_letters_unacknowledged: u64,
    /// Source rows that were compared to the end: equal, missing, different, expired, or with an item that
    /// does not decode.
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
    /// Items whose state the source stays without, as an operator has accepted, in DynamoOnly; each is one of
    /// `dead_letters`.
    #[serde(default)]
    pub accepted: u64,
    /// Keys that did not come to rest within the settle time-out.
    pub unsettled: u64,
    /// Buckets that the rows and items were summed up in.
    #[serde(default)]
    pub buckets: u64,
    /// Buckets whose sums differed, so that their entries were compared one by one.
    #[serde(default)]
    pub buckets_differing: u64,
    /// Time at which the oldest reading may have been made, by the source's clock: what went wrong before it,
    /// and was not put right since, was found; what went wrong later may have been overlooked. Of a run that
    /// went on after it was killed, this is the beginning of the first part. `None` where nothing was read.
    #[serde(default)]
    pub as_of: Option<DateTime<Utc>>,
    /// Time until which changes were looked at. Of a full pass this is [`TableReport::as_of`]. Of an
    /// incremental one it is when that began, while `as_of` stays with the full pass: what is not captured,
    /// no pass has looked for since.
    #[serde(default)]
    pub verified_as_of: Option<DateTime<Utc>>,
    /// The number of the pass whose readings these are.
    #[serde(default)]
    pub pass: Option<i64>,
    /// The number that was drawn before the first of these readings; see
    /// [`Report::began`](crate::Report::began).
    #[serde(default)]
    pub began: Option<i64>,
    /// Identity of what a full pass rested on when it began. It means something to [`record`](crate::record)
    /// alone.
    #[serde(skip)]
    pub(crate) rests_on: Option<String>,
    /// Keys that an incremental pass looked at.
    #[serde(default)]
    pub keys_changed: u64,
    /// Rows that an earlier part of this run had read.
    #[serde(default)]
    pub rows_resumed: u64,
    /// Export that was read instead of the target; `None` where that was read itself.
    #[serde(default)]
    pub export: Option<ExportSeen>,
    /// Rows that a sample chose.
    #[serde(default)]
    pub rows_sampled: u64,
    /// Items that a sample chose.
    #[serde(default)]
    pub items_sampled: u64,
    /// Read units that the scan took, where the endpoint tells; of an earlier part of this run it is not
    /// known.
    #[serde(default)]
    pub read_units: f64,
    /// Quality of the data itself; `None` where it was not asked for, or the run was broken off.
    #[serde(default)]
    pub quality: Option<Quality>,
    /// Digests of both sides; `None` where they were not read to the end.
    #[serde(default)]
    pub digests: Option<Digests>,
    /// The first findings, up to the number asked for.
    pub findings: Vec<RowFinding>,
    /// Whether both passes and the recheck came to their end.
    pub complete: bool,
    /// Reason why it is not complete, and parts that were not compared.
    pub failure: Option<String>,
    /// Whether a store could not be reached, or failed, until there was no patience left; of this run only.
    #[serde(skip)]
    pub store_failed: bool,
}

impl TableReport {
    /// Makes a table of which nothing has been compared.
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Keys on which the stores disagree or may disagree.
    pub fn findings_total(&self) -> u64 {
        self.missing + self.different + self.extra + self.undecodable + self.unsettled
    }
}

/// One key on which the stores disagree. Of row values it holds what the table reveals, unless more was asked
/// for (R36).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFinding {
    /// Class of the finding.
    pub class: FindingClass,
    /// The source key as a JSON array of literals; of an item that has none, its target key.
    pub key: String,
    /// Whether `key` is a whole source key, so that the relay can write it again.
    #[serde(default)]
    pub is_source_key: bool,
    /// Columns and attributes that differ or do not decode.
    pub columns: Vec<String>,
    /// The source key of another row whose item has the same place; the same key where two rows have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares_place_with: Option<String>,
    /// Differences of each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDiff>,
}

impl RowFinding {
    /// Returns the source key, a literal a column, if it has one.
    pub fn source_key(&self) -> Option<Vec<String>> {
        self.is_source_key.then(|| serde_json::from_str(&self.key).ok()).flatten()
    }
}

/// Fault of a key.
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
