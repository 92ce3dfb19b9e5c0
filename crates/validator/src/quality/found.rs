//! Findings about one table's data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sums::{DayCount, SumCheck};

/// Quality of one table's data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Rating of the data; `None` where no row was judged. See [`rate`](super::rate) for the thresholds.
    pub rating: Option<QualityRating>,
    /// Reasons why it is not better, one sentence each.
    pub because: Vec<String>,
    /// The rows of the source.
    pub source: SideQuality,
    /// The items of the target.
    pub target: SideQuality,
    /// References to tables that stay behind.
    pub references: Vec<ReferenceCheck>,
    /// Sums of both sides.
    pub sums: Vec<SumCheck>,
    /// Rows of each UTC day on both sides; of each month where there are too many days.
    pub days: Vec<DayCount>,
    /// Whether both sides were read at rest and to the end, so that their sums must be equal.
    pub at_rest: bool,
    /// Properties that cannot be told here, and why.
    pub unchecked: Vec<String>,
    /// Checks that should have been made and failed.
    pub failures: Vec<String>,
}

/// Business rules on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideQuality {
    /// Rows that were judged.
    pub rows: u64,
    /// Rows that do not decode, or that the target cannot hold.
    pub unreadable: u64,
    /// Rows that break at least one rule.
    pub rows_broken: u64,
    /// Each rule of the table, broken or not.
    pub rules: Vec<RuleCount>,
}

/// One business rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// Rule that must hold.
    pub rule: String,
    /// Rows that break it.
    pub rows: u64,
    /// Some of their keys.
    pub keys: Vec<String>,
}

/// One reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceCheck {
    /// The referring column.
    pub column: String,
    /// The table and the column referred to.
    pub to: String,
    /// Rows that refer to nothing; `None` where that was not checked.
    pub dangling: Option<u64>,
    /// Some of their keys.
    pub keys: Vec<String>,
}

/// Rating of the data. The later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityRating {
    /// Less than 95 % of the rows have no problem, or sums differ at rest.
    Critical,
    /// At least 95 %.
    Poor,
    /// At least 99 %.
    Fair,
    /// At least 99.9 %.
    Good,
    /// At least 99.99 %, and everything that can be checked was.
    Excellent,
}

impl fmt::Display for QualityRating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Critical => "Critical",
            Self::Poor => "Poor",
            Self::Fair => "Fair",
            Self::Good => "Good",
            Self::Excellent => "Excellent",
        })
    }
}
