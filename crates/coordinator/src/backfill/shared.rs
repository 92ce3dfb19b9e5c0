//! Bounds that the tables of a run share, and the counts of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use lockstep_dynamo::LoadPath;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::budget::Budget;
use crate::rate::Rate;

/// Counts of what a backfill did for one table.
#[derive(Clone, Debug, Serialize)]
pub struct BackfillSummary {
    /// The table.
    pub table: String,
    /// Load path by which the initial load was put.
    pub load_path: LoadPath,
    /// Ranges of the plan.
    pub ranges: u64,
    /// Ranges that earlier runs had finished; none of them was read again.
    pub ranges_resumed: u64,
    /// Rows that earlier runs had finished.
    pub rows_resumed: u64,
    /// Rows read by this run.
    pub rows_read: u64,
    /// Rows put by this run.
    pub rows_written: u64,
    /// Rows whose key was there already.
    pub rows_present: u64,
    /// Rows set aside by this run.
    pub dead_letters: u64,
    /// Bytes read by this run.
    pub bytes_read: u64,
    /// Seconds that it took.
    pub duration_s: f64,
}

/// Bounds that all tables of a run share.
pub(super) struct Shared {
    pub(super) rate: Rate,
    /// Budget of this process and all others together.
    pub(super) budget: Budget,
    /// One permit a range being read, so that the source sees a bounded number of readers.
    pub(super) readers: Semaphore,
    /// One permit a KiB read and not yet acknowledged: what bounds memory.
    pub(super) queue_kib: Arc<Semaphore>,
    pub(super) errors: AtomicU64,
    /// Whether the endpoint has half of PartiQL.
    pub(super) no_statements: AtomicBool,
}
