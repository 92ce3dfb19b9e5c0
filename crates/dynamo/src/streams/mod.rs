//! DynamoDB Streams: every change of a target table, in order for each key, for 24 hours.
//!
//! Words: a *shard* holds the records of one partition for some hours, then it is closed and has one or
//! two *children*; a *position* is the sequence number of the last record that was taken; a *marker* is a
//! tombstone at a place that no row can have, written to see whether everything before it has come
//! through.
//!
//! In reading order: `api` (what is asked of a stream, a trait so that shards can be split at will in
//! tests), `enable`, `sdk` (the real one), `listing` (what it asks seldom), `convert`, `options`, `reader`
//! (one shard), `lineage` (which shards may be read), `follow` (all of them), `change` (what a record
//! says), `marker`.

mod api;
mod change;
mod convert;
mod enable;
mod follow;
mod lineage;
mod listing;
mod marker;
mod options;
mod proven;
mod reader;
mod sdk;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vanishing;
#[cfg(test)]
mod wide;

pub use api::{RecordsPage, Shard, StreamApi, StreamError, StreamRecord};
pub use change::changes_of;
pub use follow::{Sink, follow};
pub use lineage::{childless, readable};
pub(super) use listing::Listings;
pub use options::FollowOptions;
pub use reader::ShardPage;
pub use sdk::TableStream;
