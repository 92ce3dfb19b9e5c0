//! Statements of the stores about their history, and the signs of a loss.

use chrono::{DateTime, Utc};
use lockstep_core::{Side, Version};
use lockstep_dynamo::ContinuityMark;
use lockstep_postgres::{Contradicted, KnownMarks, SourceContinuity};
use serde::Serialize;

/// Statements of both stores about their history.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Continuity {
    /// The source of itself; `None` where schema `lockstep` is not there.
    pub source: Option<SourceContinuity>,
    /// Every adopted table.
    pub tables: Vec<TableContinuity>,
}

/// Facts about one adopted table, on both sides.
#[derive(Clone, Debug, Serialize)]
pub struct TableContinuity {
    /// Table name.
    pub name: String,
    /// Name of the table in the target.
    pub target_name: String,
    /// The marks that the source knows of.
    pub known: KnownMarks,
    /// DynamoDB's id of the table that was adopted.
    pub known_id: Option<String>,
    /// State of the target table.
    pub found: Found,
}

/// State of a target table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The table could not be asked, for this reason.
    Unknown(String),
    /// There is no such table.
    Gone,
    /// There is one.
    There {
        /// DynamoDB's id of it.
        id: Option<String>,
        /// Mark that it remembers of the source.
        mark: Option<ContinuityMark>,
    },
}

/// One sign that a store has lost history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "sign", rename_all = "snake_case")]
pub enum Loss {
    /// The source is another server, or on another timeline: what was committed last may be missing.
    SourceServer {
        /// Identity of the source as it was.
        was: String,
        /// Identity of the source as it is.
        is: String,
    },
    /// The source has handed out versions that it is about to hand out again.
    SourceVersion {
        /// The table that remembers it; `None` where the source itself does.
        table: Option<String>,
        /// The version.
        seen: Version,
        /// The one that the source is at.
        now: Version,
        /// Time at which it was remembered.
        at: Option<DateTime<Utc>>,
    },
    /// The target carries a mark that the source does not know it has made.
    SourceMark {
        /// The table.
        table: String,
        /// The mark in the target.
        found: i64,
        /// The newest that the source knows of.
        known: i64,
        /// Time at which the mark was made.
        at: DateTime<Utc>,
    },
    /// A target table refuses a change by a version that the source has not delivered there: of a time that
    /// the source has lost, or another program's.
    SourceContradicted {
        /// The table.
        table: String,
        /// The source key; its mark stays.
        key: String,
        /// The version of the change.
        version: Version,
        /// The version that the target holds.
        seen: Version,
    },
    /// A target table is gone.
    TargetGone {
        /// The table.
        table: String,
        /// Name of the table in the target.
        target_name: String,
    },
    /// A target table was restored, or created again, under the same name.
    TargetReplaced {
        /// The table.
        table: String,
        /// Name of the table in the target.
        target_name: String,
        /// Time of its newest mark: about the moment that it was restored to. `None` where it has none.
        as_of: Option<DateTime<Utc>>,
    },
    /// A target table does not have the newest mark that was made in it: it was set back in place.
    TargetMark {
        /// The table.
        table: String,
        /// Name of the table in the target.
        target_name: String,
        /// The newest mark that was made.
        known: i64,
        /// The one that is there.
        found: Option<i64>,
        /// Time at which that was made.
        as_of: Option<DateTime<Utc>>,
    },
}

impl Loss {
    /// Returns the sign that a refused change is.
    pub(crate) fn of_change(refused: &Contradicted) -> Self {
        let Contradicted { table_name, key, version, seen } = refused;
        Self::SourceContradicted {
            table: table_name.clone(),
            key: key.clone(),
            version: Version(*version),
            seen: Version(*seen),
        }
    }

    /// Returns the store that has lost something.
    pub fn side(&self) -> Side {
        match self {
            Self::SourceServer { .. }
            | Self::SourceVersion { .. }
            | Self::SourceMark { .. }
            | Self::SourceContradicted { .. } => Side::Source,
            Self::TargetGone { .. } | Self::TargetReplaced { .. } | Self::TargetMark { .. } => Side::Target,
        }
    }

    /// Returns the table of a target that has.
    pub fn target_table(&self) -> Option<&str> {
        match self {
            Self::TargetGone { table, .. }
            | Self::TargetReplaced { table, .. }
            | Self::TargetMark { table, .. } => Some(table),
            Self::SourceServer { .. }
            | Self::SourceVersion { .. }
            | Self::SourceMark { .. }
            | Self::SourceContradicted { .. } => None,
        }
    }
}
