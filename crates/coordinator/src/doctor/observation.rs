//! Observation of a migration: all that can be seen of it. Values only.

use chrono::{DateTime, Utc};
use lockstep_core::{Control, Epoch, InstanceRow, Phase, TargetRecord};
use lockstep_dynamo::{TableExpiry, UndeclaredIndex};
use lockstep_postgres::reverse::FeedStanding;
use lockstep_postgres::{Completed, Entry, VerdictWord};
use serde::Serialize;

use crate::loss::Continuity;

/// Everything that the doctor looks at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observation {
    /// Reason why PostgreSQL could not be asked; then only DynamoDB was looked at.
    pub source_error: Option<String>,
    /// Whether schema `lockstep` is there.
    pub installed: bool,
    /// PostgreSQL's control record.
    pub control: Option<(Phase, Epoch, DateTime<Utc>)>,
    /// DynamoDB's; `None` where the truth was never there, or it could not be asked.
    pub target_record: Option<TargetRecord>,
    /// Reason why DynamoDB's control record could not be read; then it is not known what it says.
    pub target_record_error: Option<String>,
    /// Reason why DynamoDB does not answer at all; one that denies, answers.
    pub target_silent: Option<String>,
    /// Whether it names no migration, and we know which ours is: a version that knew no owners made it, or
    /// another program.
    pub target_record_unnamed: bool,
    /// Whether it was read, and does not say what a record says.
    pub target_record_damaged: bool,
    /// Reason why the control table in DynamoDB is another migration's; then nothing of its record is seen
    /// here.
    pub foreign_control_table: Option<String>,
    /// The newest epoch in which DynamoDB may have been written, as PostgreSQL remembers it.
    pub newest_target_epoch: Option<Epoch>,
    /// Tables whose id counters in DynamoDB would hand out ids that are in use.
    pub ids_set_back: Vec<String>,
    /// Memory that PostgreSQL has of this migration, if it is complete.
    pub completed: Option<Completed>,
    /// Whether schema `lockstep` is there, and is that of a migration that began after this one was complete.
    pub followed: bool,
    /// Sentence on the migration whose schema `lockstep` is, where that is of other tables and under way.
    pub other_under_way: Option<String>,
    /// The other migrations that are complete in this database, while this one has no schema there.
    pub earlier: Vec<String>,
    /// The source tables that are there still after it.
    pub left: Vec<String>,
    /// Tables that do not read in PostgreSQL as it is now, by name, each with everything that is wrong.
    /// Nothing else is seen of them.
    pub unread: Vec<Unread>,
    /// Processes that hold our locks.
    pub at_work: AtWork,
    /// Sessions of other roles that hold a lock of ours.
    pub foreign_holders: Vec<lockstep_postgres::ForeignHolder>,
    /// Prepared transactions, which hold locks that no list of sessions shows.
    pub prepared: Vec<lockstep_postgres::Prepared>,
    /// Marks of the pending set that cannot be taken out.
    pub held_back: Option<lockstep_postgres::HeldBack>,
    /// Logical replication of schema `lockstep`.
    pub replicated: lockstep_postgres::Replicated,
    /// Fault of the sequence that versions come from.
    pub versions_out_of_order: Option<String>,
    /// Steps without an outcome.
    pub open_steps: Vec<Entry>,
    /// Whether a step among them, which moves the truth, came so far that DynamoDB may have been written as
    /// the truth.
    pub target_written: bool,
    /// Open intents of strict writes, and the age of the oldest in seconds.
    pub open_writes: (i64, f64),
    /// Registered instances.
    pub instances: Vec<InstanceRow>,
    /// Keys of items of the control table that stand among leases and are none.
    pub no_leases: Vec<String>,
    /// Reason why the leases in DynamoDB could not be read.
    pub leases_error: Option<String>,
    /// Other parts of the control table that could not be read, a sentence each.
    pub control_unread: Vec<String>,
    /// The newest verdict.
    pub verdict: Option<VerdictSeen>,
    /// Histories of both stores, as their marks tell.
    pub histories: Continuity,
    /// Whether history was lost before, and no comparison of everything has agreed since.
    pub loss_undecided: bool,
    /// Each table.
    pub tables: Vec<TableSeen>,
}

impl Observation {
    /// PostgreSQL's control record, as stores read it.
    pub fn control(&self) -> Option<Control> {
        let (phase, epoch, changed_at) = self.control?;
        Some(Control { phase, epoch, changed_at, writes_paused: phase == Phase::DynamoOnly })
    }
}

/// Processes that hold a lock of Lockstep, as PostgreSQL's backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AtWork {
    /// The coordinator.
    pub coordinator: Option<i32>,
    /// The reverse feed.
    pub reverse_feed: Option<i32>,
}

/// The newest verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct VerdictSeen {
    /// Whether it said consistent.
    pub consistent: bool,
    /// Whether nothing was found, and not everything was compared.
    pub incomplete: bool,
    /// Age of the verdict in seconds.
    pub age_s: f64,
    /// The epoch it was made in.
    pub epoch: i64,
    /// Word of a verdict that was recorded later, and does not answer it.
    pub later: Option<VerdictWord>,
}

/// Columns of a table that are others than those that were captured; none where they are the same.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ColumnsSeen {
    /// Those that came, or have another type, each with it.
    pub came: Vec<String>,
    /// Those that went, or had another type, each with it.
    pub gone: Vec<String>,
    /// The names of those that came and are moved.
    pub added: Vec<String>,
    /// Reasons why this build does not read the table as it is, a sentence each.
    pub unknown: Vec<String>,
    /// Columns of the key that are others, a sentence each.
    pub of_key: Vec<String>,
}

impl ColumnsSeen {
    /// Tells whether any is another one.
    pub fn are_others(&self) -> bool {
        !(self.came.is_empty() && self.gone.is_empty())
    }
}

/// Observation of one table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TableSeen {
    /// Table name.
    pub name: String,
    /// Relation of the table.
    pub relation: String,
    /// Name in the target.
    pub target_name: String,
    /// Triggers of the table.
    pub capture: CaptureSeen,
    /// Whether the key is no longer the one that was captured, or the table is not there.
    pub fingerprint_changed: bool,
    /// Columns that are others than those that were captured.
    pub columns: ColumnsSeen,
    /// Whether a statement about the table has rewritten values past its triggers.
    pub rewritten: bool,
    /// Partitions of it that went, or came with rows unseen, a sentence for each.
    pub partitions: Vec<String>,
    /// Ways in which rows of it are hidden, a sentence for each.
    pub hidden: Vec<String>,
    /// Settings of keys, attributes and expiry that are not those that were captured, a sentence each.
    pub settings_changed: Vec<String>,
    /// The target table that was adopted, if another one is configured now.
    pub adopted_another: Option<String>,
    /// Table in the target under its name.
    pub target: TargetSeen,
    /// Expiry of its items in the target.
    pub expiry: ExpirySeen,
    /// Indexes of it that are none of the table's design.
    pub undeclared: Vec<UndeclaredIndex>,
    /// Whether the ranges of the backfill were planned.
    pub planned: bool,
    /// Ranges, and how many are done.
    pub ranges: (u64, u64),
    /// Pending keys, and the age of the oldest in seconds.
    pub pending: (i64, f64),
    /// Dead letters, and how many are not acknowledged.
    pub dead_letters: (i64, i64),
    /// Whether a cold load was broken off, or a request of it could still arrive.
    pub cold_open: bool,
    /// Whether an import is making the target table.
    pub importing: bool,
    /// Standing of the reverse feed.
    pub reverse: Option<FeedStanding>,
}

impl TableSeen {
    /// Tells whether keys, attributes or expiry are configured otherwise than the table was captured with.
    pub fn is_set_otherwise(&self) -> bool {
        !self.settings_changed.is_empty() && self.capture != CaptureSeen::Absent
    }
}

/// The triggers of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureSeen {
    /// Never installed.
    #[default]
    Absent,
    /// On, and never off.
    On,
    /// Off, or off for a while.
    Broken(String),
    /// Installed on another relation than the one that is configured.
    Elsewhere(String),
}

/// Table in the target under a table's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetSeen {
    /// It could not be asked.
    Unknown(String),
    /// Nothing.
    #[default]
    Missing,
    /// A table.
    There {
        /// Whether it and its indexes are ACTIVE.
        active: bool,
        /// Differences from what it must be.
        mismatches: Vec<String>,
        /// Whether it carries a mark of some migration.
        marked: bool,
    },
}

/// Expiry of a target table, as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpirySeen {
    /// It is as the table says, or was not asked about.
    #[default]
    Right,
    /// The rows of the table expire, and it is off.
    Off,
    /// It is by an attribute that is none of ours.
    Wrong(TableExpiry),
    /// It could not be asked: why.
    Unknown(String),
}

/// Observation of one table in the target.
#[derive(Clone, Debug, Default)]
pub(super) struct InTarget {
    pub(super) target: TargetSeen,
    pub(super) expiry: ExpirySeen,
    pub(super) undeclared: Vec<UndeclaredIndex>,
}

impl From<TargetSeen> for InTarget {
    fn from(target: TargetSeen) -> Self {
        Self { target, ..Self::default() }
    }
}

/// A table of the migration of which nothing is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Name of the table.
    pub name: String,
    /// Everything that is wrong.
    pub why: String,
    /// Whether it is configured, and does not read.
    pub is_configured: bool,
}
