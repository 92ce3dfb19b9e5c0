//! Snapshot of what the daemon knows: one reading of the migration.

use std::time::Instant;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lockstep_coordinator::Status;
use lockstep_core::Phase;

use crate::alerts::{Alert, Health};
use crate::stores::{RateView, StoresView};

/// One reading.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Number of this reading.
    pub(crate) number: u64,
    /// The migration, as it was read last.
    pub(crate) status: Option<Status>,
    /// Time of that reading.
    pub(crate) read_at: Option<(Instant, DateTime<Utc>)>,
    pub(crate) stores: StoresView,
    pub(crate) health: Health,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) rates: Vec<RateView>,
    /// All of it as JSON, on one line.
    pub(crate) json: Bytes,
}

impl Snapshot {
    /// Returns the phase, as far as it is known.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.status.as_ref().and_then(|status| status.phase)
    }
}
