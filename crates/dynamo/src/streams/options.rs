//! Options of following a stream.

use std::time::Duration;

/// Options of following a stream.
#[derive(Clone, Copy, Debug)]
pub struct FollowOptions {
    /// Pause after an answer without records.
    pub idle_pause: Duration,
    /// Shortest time between two requests of a shard. DynamoDB allows five a second, for all who read it.
    pub page_every: Duration,
    /// Time between two lists of the shards.
    pub list_every: Duration,
    /// Most pages of shards that have had records lately which are read, or taken by the sink, at once: each
    /// has at most a megabyte.
    pub pages_at_once: usize,
    /// Most records of a page.
    pub page_records: usize,
}
