//! Bounds of a request to S3: how long it may take, and which keys there can be.

use std::time::Duration;

use lockstep_core::{Error, Kind, Result};
use object_store::path::Path;

use super::fault::invalid;

/// Waits for no longer than this: a connection that says nothing is one that was cut.
pub(super) async fn within<T>(longest: Duration, doing: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(longest, work).await.map_err(|_| {
        let why = format!("no answer within {} s", longest.as_secs());
        Error::target(Kind::Unavailable, doing, why)
    })
}

pub(super) fn path_of(key: &str, doing: &str) -> Result<Path> {
    Path::parse(key).map_err(|e| invalid(doing, e.to_string()))
}
