//! Options of the feed.

use std::time::Duration;

use lockstep_dynamo::streams::FollowOptions;

/// Settings of the reverse feed.
#[derive(Clone, Debug)]
pub struct ReverseFeedOptions {
    /// Options of following each stream.
    pub follow: FollowOptions,
    /// Time after which items that PostgreSQL refused are read again.
    pub again_every: Duration,
}

impl Default for ReverseFeedOptions {
    fn default() -> Self {
        Self {
            follow: FollowOptions {
                // DynamoDB answers five requests a second for a shard, and two readers may share them.
                idle_pause: Duration::from_millis(250),
                page_every: Duration::from_millis(200),
                list_every: Duration::from_secs(2),
                // A page has at most a megabyte, so this is the memory that a table takes, and its
                // connections.
                pages_at_once: 4,
                page_records: 1_000,
            },
            again_every: Duration::from_secs(2),
        }
    }
}
