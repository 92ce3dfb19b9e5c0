//! Whether the stores answer, and how fast tables move.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Whether a store answers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreView {
    pub(crate) up: bool,
    pub(crate) since: DateTime<Utc>,
    pub(crate) why: Option<String>,
    pub(crate) latency_ms: Option<f64>,
}

/// Both stores; `None` before they were asked.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StoresView {
    pub(crate) postgresql: Option<StoreView>,
    pub(crate) dynamodb: Option<StoreView>,
}

impl StoresView {
    /// Tells whether a store is known not to answer.
    pub(crate) fn is_down(store: Option<&StoreView>) -> bool {
        store.is_some_and(|store| !store.up)
    }

    /// Tells whether one of both is.
    pub(crate) fn any_is_down(&self) -> bool {
        Self::is_down(self.postgresql.as_ref()) || Self::is_down(self.dynamodb.as_ref())
    }
}

/// Rate at which a table moves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RateView {
    pub(crate) table: String,
    pub(crate) relayed_per_s: f64,
    pub(crate) rows_per_s: f64,
    /// Seconds until its rows are copied, and what they may be at least and at most.
    pub(crate) eta_s: Option<f64>,
    pub(crate) eta_least_s: Option<f64>,
    pub(crate) eta_most_s: Option<f64>,
    pub(crate) throttles: u64,
    pub(crate) slowed_by: Option<String>,
}
