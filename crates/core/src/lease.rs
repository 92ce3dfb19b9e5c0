//! State of a registered instance, in whichever store its lease is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::version::Epoch;

/// Longest lease: a coordinator that has lost sight of all leases, with the table that they were in, knows
/// that they are over after so long.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// The process that registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// See [`InstanceRow::id`].
    pub id: i64,
    /// See [`InstanceRow::name`].
    pub name: String,
    /// Time at which the process became an instance, by its own clock; for people only.
    pub started_at: DateTime<Utc>,
    /// The lease.
    pub lease: Duration,
}

/// Whether a step has to wait for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// An instance that may be serving.
    Live,
    /// An instance whose lease was waited out; it serves nothing until it registers again.
    Expired,
}

/// One registered instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceRow {
    /// Chosen at random by the process.
    pub id: i64,
    /// Name that the application gave itself.
    pub name: String,
    /// The address it connects from, as PostgreSQL sees it; `local` over a socket.
    pub host: String,
    /// Number of its process.
    pub pid: i64,
    /// Time at which the process became an instance.
    pub started_at: DateTime<Utc>,
    /// The epoch it has acknowledged: it serves nothing by an older one. `None` before its first renewal.
    pub epoch: Option<i64>,
    /// Length of its lease in milliseconds.
    pub lease_ms: i64,
    /// Number of its renewals.
    pub renewals: i64,
    /// Time of its last renewal, by the source's clock.
    pub renewed_at: DateTime<Utc>,
    /// Rest of its lease in milliseconds, by the source's clock; negative when it is over. For
    /// people: no decision hangs on it, because that clock may be set.
    pub lease_left_ms: i64,
    /// See [`InstanceState`].
    pub state: InstanceState,
}

impl InstanceRow {
    /// Returns the duration of the instance's lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.unsigned_abs())
    }

    /// Returns the instance's name, host and process, for people.
    pub fn title(&self) -> String {
        format!("instance {} (host {}, pid {})", self.name, self.host, self.pid)
    }

    /// Tells whether it has acknowledged `epoch` or a later one.
    pub fn has_acknowledged(&self, epoch: Epoch) -> bool {
        self.epoch.is_some_and(|acknowledged| acknowledged >= epoch.0)
    }
}
