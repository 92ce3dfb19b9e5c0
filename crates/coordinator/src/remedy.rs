//! Remedies that the repair of the state has, in the order in which it applies them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that the repair of the state does. The order of the variants is the order in which they are
/// done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Remedy {
    /// Install the triggers of a table again, while PostgreSQL is the truth or is to be. First of all: no
    /// application may write unseen after anything that comes later.
    Recapture {
        /// The table.
        table: String,
    },
    /// The same in DynamoOnly, where only the reverse feed writes PostgreSQL.
    Refreeze {
        /// The table.
        table: String,
    },
    /// Take a table with its columns as they are now, while PostgreSQL is the truth.
    TakeColumns {
        /// The table.
        table: String,
        /// The columns that came and are moved.
        columns: Vec<String>,
        /// Whether others went, or have another type.
        whole: bool,
    },
    /// Take a source table as it is now for the one that was captured, in DynamoOnly, where nothing is copied
    /// from it.
    TakeShape {
        /// The table.
        table: String,
    },
    /// Take the partitions of a table as they are now: rows that went with one are deleted.
    TakePartitions {
        /// The table.
        table: String,
    },
    /// Make PostgreSQL say DynamoOnly again, after it was set back, and take everything that DynamoDB holds
    /// for news. Before steps are settled, which cannot be done over records that contradict each other.
    FollowTarget,
    /// Read the whole target into the source.
    ReverseBackfill,
    /// Recreate DynamoDB's control record and its id counters. Before steps are settled: the record decides
    /// how.
    RemakeControl,
    /// Take the target table that is there for the one in use, or make it, and copy its initial load again.
    AdoptTarget {
        /// The table.
        table: String,
    },
    /// Make PostgreSQL the truth again, in DualWrite, once it has everything that DynamoDB holds.
    ReturnToSource,
    /// Make DynamoDB's record say what PostgreSQL's does: the control table was set back.
    CloseRecord,
    /// Begin a new epoch above everything that the target has seen, in DualWrite at most, and take the
    /// present history for the right one. Before steps are settled, which cannot be done over records that
    /// contradict each other.
    RaiseEpoch,
    /// Finish or undo what a dead coordinator left open.
    SettleSteps,
    /// Let applications write DynamoDB again: a pause was left behind, and no step is under way.
    LetGoOn,
    /// Switch on expiry of a target table whose rows expire: it was restored, or an operator switched it off.
    SwitchExpiryOn {
        /// The table.
        table: String,
    },
    /// Mark each row that has a value in a column that was added, or each row where other columns went, in
    /// the epoch that began when they were taken.
    BringColumns {
        /// The table.
        table: String,
        /// The columns that came and are moved.
        columns: Vec<String>,
        /// Whether each row is marked.
        whole: bool,
    },
    /// Copy the initial load, which knows what is there already.
    Backfill,
    /// Compare both stores whole, and bring DynamoDB to what PostgreSQL says.
    Compare,
    /// Compare both stores whole, and only list what differs: what DynamoDB has more may be the only copy of
    /// what PostgreSQL forgot.
    List,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SettleSteps => f.write_str("finish or undo what a dead coordinator left open, as the control record says"),
            Self::Recapture { table } => write!(f, "install the triggers of {table} again"),
            Self::TakeColumns { table, columns, whole: false } if !columns.is_empty() => {
                write!(f, "take {table} with column {}, which was added to it", columns.join(" and "))
            }
            Self::TakeColumns { table, .. } => write!(f, "take {table} with its columns as they are now"),
            Self::BringColumns { table, whole: true, .. } => write!(f, "mark each row of {table}"),
            Self::BringColumns { table, columns, .. } if columns.is_empty() => {
                write!(f, "mark no row of {table}: what came is computed by PostgreSQL, and is not moved")
            }
            Self::BringColumns { table, columns, .. } => {
                write!(f, "mark each row of {table} that has a value of {}", columns.join(" or "))
            }
            Self::Refreeze { table } => write!(
                f,
                "install the triggers of {table} again, so that PostgreSQL takes no write but the reverse \
                feed's; then its rows become those of DynamoDB, and others are deleted, but for what has \
                expired and dead letters"
            ),
            Self::ReturnToSource => f.write_str(
                "stop writes to DynamoDB, read everything that it holds into PostgreSQL, and make \
                PostgreSQL the truth, in DualWrite and in an \
                 epoch above all that DynamoDB has seen",
            ),
            Self::CloseRecord => {
                f.write_str("make DynamoDB's control record say that the truth is in PostgreSQL")
            }
            Self::SwitchExpiryOn { table } => {
                write!(f, "switch on expiry of the target table of {table}")
            }
            Self::LetGoOn => f.write_str("let applications write DynamoDB again"),
            Self::TakeShape { table } => write!(
                f,
                "take the source table of {table} as it is now for the one that was captured; then its rows \
                become those of DynamoDB, and others are deleted, but for what has expired and dead letters"
            ),
            Self::TakePartitions { table } => write!(
                f,
                "take the partitions of {table} as they are now: the items of rows that went with one are deleted, and the rows of one that \
                 came are copied"
            ),
            Self::AdoptTarget { table } => write!(f, "take the target table of {table} that is there now for the one in use (it is made if it is missing)"),
            Self::RemakeControl => f.write_str(
                "recreate DynamoDB's control record, in an epoch above all that it has counted, with ids far above all that were handed out, \
                 when every lease that was lost with it is over",
            ),
            Self::FollowTarget => f.write_str("make PostgreSQL say DynamoOnly again, and take everything that DynamoDB has had since for news"),
            Self::ReverseBackfill => f.write_str("read every item of DynamoDB into PostgreSQL"),
            Self::RaiseEpoch => f.write_str(
                "begin a new epoch, above every version that DynamoDB has seen, in DualWrite at most: reads go to PostgreSQL until a \
                 new verdict lets them back",
            ),
            Self::Backfill => f.write_str("copy the initial load again, but for rows that are there"),
            Self::Compare => f.write_str("compare both stores whole, and mark every key that differs, so that the relay brings DynamoDB to what PostgreSQL says"),
            Self::List => f.write_str(
                "compare both stores whole, and list what differs, without changing it: DynamoDB may have the only copy of what PostgreSQL forgot",
            ),
        }
    }
}
