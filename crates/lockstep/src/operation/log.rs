//! Events of an operation that are logged, for any table.

use std::time::Duration;

use chrono::{DateTime, Utc};

use lockstep_core::MigratableTable;

/// The stage that a log of an operation tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The operation begins; written by itself, before anything else.
    Start,
    /// The operation has succeeded; written in its own transaction.
    Success,
    /// The operation was rolled back; written by itself, afterwards.
    Failure,
}

/// Something to log.
#[derive(Clone, Copy, Debug)]
pub struct OperationEvent<'a> {
    /// Name of the kind of operation.
    pub name: &'a str,
    /// Ties its logs and the calls it makes together.
    pub correlation_id: &'a str,
    /// Stage of the operation that this logs.
    pub stage: Stage,
    /// Time of the event, to the microsecond.
    pub at: DateTime<Utc>,
    /// Time for which the operation has been under way.
    pub elapsed: Option<Duration>,
    /// Reason why it failed, without row values.
    pub message: Option<&'a str>,
}

/// Makes a row of a log table of what happens to an operation.
pub trait LogSink: Send + Sync + 'static {
    /// The table that logs are written to, one of the migration's own. PostgreSQL gives its rows their keys.
    type Table: MigratableTable;

    /// The row of an event. Called up to two times for an operation; must be pure.
    fn row(&self, event: &OperationEvent<'_>) -> <Self::Table as MigratableTable>::Row;
}
