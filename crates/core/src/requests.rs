//! Times that the stores take for requests, for the exporter of metrics that a process has (R47).
//!
//! One histogram for both stores and for everything that asks them: relay, backfill, comparison, feed, steps
//! and applications. A request is named by its kind, never by its table: 1. A migration has fifty tables. 2.
//! Each kind of each of them has a dozen buckets. 3. A scrape would be of thousands of lines.

use std::time::Duration;

use metrics::{SharedString, histogram};

use crate::error::Side;

/// Name of the histogram, in seconds: by `store` (`postgresql`, `dynamodb`) and `operation`.
pub const REQUEST_SECONDS: &str = "lockstep_store_request_seconds";

/// Notes a request that has ended, however it did. Where nothing keeps metrics, it costs nothing.
pub fn note_request(side: Side, operation: impl Into<SharedString>, took: Duration) {
    let store = match side {
        Side::Source => "postgresql",
        Side::Target => "dynamodb",
    };
    histogram!(REQUEST_SECONDS, "store" => store, "operation" => operation).record(took.as_secs_f64());
}
