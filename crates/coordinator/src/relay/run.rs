//! Values that the parts of a relay share: how it was begun, its counts, one table of it.

use std::time::Instant;

use lockstep_dynamo::ReadAt;
use lockstep_postgres::{KeyOrder, RelayShare, TableBinding};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Queue};
use super::pace::Pace;
use super::share::Shares;
use crate::options::MigrationContext;
use crate::progress::{Progress, TableProgress};

/// Condition under which a relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayUntil {
    /// The relay ends when nothing has been pending in any table during one whole pass.
    Empty,
    /// The relay ends when it is cancelled.
    Cancelled,
}

/// Counts of what a relay did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelaySummary {
    /// Changes delivered.
    pub delivered: u64,
    /// Rows set aside.
    pub dead_letters: u64,
    /// Passes over all tables.
    pub passes: u64,
}

/// Values that stay the same in one run.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) order: KeyOrder,
    pub(super) migration: &'a MigrationContext,
    pub(super) until: RelayUntil,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a CancellationToken,
    pub(super) pace: &'a Pace,
    pub(super) shares: &'a Shares,
    pub(super) queue: &'a Queue,
}

/// One table of a run.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) run: Run<'a>,
    pub(super) binding: &'a TableBinding,
    pub(super) progress: &'a TableProgress,
    pub(super) kept: &'a Kept,
    /// The keys that are this relay's; `None` for every key.
    pub(super) share: Option<RelayShare>,
    /// Time at which its pass began.
    pub(super) began: Instant,
    /// Time at which what is being sent was read.
    pub(super) read_at: ReadAt,
}
