//! Calls that a feed makes of a stream.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use lockstep_core::{Attributes, Error};

/// One shard, as the stream lists it.
///
/// Whether it is closed is not taken from here: the embedded emulator gives an open shard an ending sequence
/// number as well. A shard is closed when reading it comes to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Id of the shard.
    pub id: String,
    /// The shard it was split from, or follows; it may have been trimmed already.
    pub parent: Option<String>,
}

/// One change of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRecord {
    /// Sequence number in the shard; they grow.
    pub sequence: String,
    /// Time at which it happened, to the second.
    pub at: Option<DateTime<Utc>>,
    /// Key attributes of the item.
    pub key: Attributes,
    /// The item before, if there was one.
    pub old: Option<Attributes>,
    /// The item after, if there is one.
    pub new: Option<Attributes>,
    /// Whether DynamoDB's own expiry removed it, and not a caller.
    pub expired: bool,
}

/// One answer to a request for records.
#[derive(Clone, Debug, Default)]
pub struct RecordsPage {
    /// The records, oldest first. None does not mean that there are none further on.
    pub records: Vec<StreamRecord>,
    /// Start of the next page; `None` at the end of a closed shard.
    pub next: Option<String>,
}

/// Failures of a stream, besides those that any request has.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The records after the position are gone: they are older than the retention.
    #[error("the stream no longer has the records after this position")]
    Trimmed,
    /// The iterator is older than 15 minutes; one from the same position is as good.
    #[error("the shard iterator has expired")]
    Expired,
    /// There is no such shard: it is older than the retention. Or no such stream: it was switched off.
    #[error("the stream has no such shard")]
    Gone,
    /// Anything else.
    #[error(transparent)]
    Store(#[from] Error),
}

/// One table's stream. Called by one task a shard, all of them in parallel.
#[async_trait]
pub trait StreamApi: Send + Sync {
    /// Every shard that the stream still has, closed ones included, as of a second ago at most. A new one may
    /// be missing for a moment.
    async fn shards(&self) -> Result<Vec<Shard>, StreamError>;

    /// An iterator over a shard, from after `position`, or from its oldest record.
    ///
    /// # Errors
    /// [`StreamError::Trimmed`] when that position is no longer there; [`StreamError::Gone`] when the shard
    /// is not.
    async fn iterator(&self, shard: &str, position: Option<&str>) -> Result<String, StreamError>;

    /// Up to `limit` records and the iterator to go on with. Asking again with the same iterator gives the
    /// same records.
    ///
    /// # Errors
    /// [`StreamError::Expired`] and [`StreamError::Trimmed`].
    async fn records(&self, iterator: &str, limit: usize) -> Result<RecordsPage, StreamError>;
}
