//! Activity of a part, and the process that leads.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Whether this daemon leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    /// It does not, and why.
    Standby(String),
}

impl Role {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Standby(_) => "standby",
        }
    }
}

/// Parts that may be paused.
pub(crate) const PAUSABLE: [&str; 5] = ["relay", "reverse-feed", "sampling", "backfill", "validation"];
/// Parts that are paused where none is named.
pub(crate) const PAUSED_BY_DEFAULT: [&str; 2] = ["relay", "reverse-feed"];

/// Activity of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartState {
    Running,
    /// For something outside of it.
    Waiting,
    /// It failed, and begins again by itself.
    Restarting,
    Paused,
    /// The phase does not need it.
    NotNeeded,
    /// Another daemon does it.
    Standby,
}

/// One part, for the status.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PartView {
    pub(crate) name: &'static str,
    pub(crate) state: PartState,
    pub(crate) since: DateTime<Utc>,
    pub(crate) restarts: u64,
    pub(crate) why: Option<String>,
}

/// A part that an operator has paused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pause {
    pub(crate) part: String,
    pub(crate) actor: String,
    pub(crate) reason: Option<String>,
    pub(crate) until: Option<DateTime<Utc>>,
}
