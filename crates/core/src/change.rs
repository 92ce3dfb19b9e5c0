//! Changes of items as a stream of the target tells them, a page of them folded, and how far a shard was
//! read.

use crate::attribute::Attributes;
use crate::version::Version;

/// Time for which a stream keeps a record (DynamoDB Developer Guide, "Change data capture for DynamoDB
/// Streams").
pub const RETENTION: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Position in a shard up to which it was read when it was last saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The last record that was taken.
    pub position: Option<String>,
    /// Whether the shard was read to its end.
    pub finished: bool,
}

/// The news of one record about its item.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The item holds this state at this version.
    Put(Version, Attributes),
    /// The row was deleted at this version; the item before, if it was a row.
    Deleted(Version, Option<Attributes>),
    /// DynamoDB's expiry removed the item: retention, not a delete by a writer.
    Expired,
    /// A change that did not come through the guard, so it cannot be ordered, with the reason.
    Foreign(&'static str),
    /// A marker of this round has come through.
    Marker(String),
    /// A tombstone or a marker was removed, or something that is no row's was written.
    Purged,
}

/// Outcome of a page: the newest state only of each item, in the order of the last record of each, and what
/// was met.
#[derive(Debug, Default)]
pub struct Folded {
    /// Items that changed.
    pub items: Vec<FoldedItem>,
    /// Records of expiry.
    pub expired: u64,
    /// Records that did not come through the guard, and why the last one did not.
    pub foreign: u64,
    /// Reason why the last of them did not.
    pub foreign_reason: Option<&'static str>,
    /// The round of the newest marker.
    pub marker: Option<String>,
    /// Every marker, by its round and its place.
    pub markers: Vec<(String, String)>,
}

/// The changes of one item in a page.
#[derive(Debug, Default)]
pub struct FoldedItem {
    /// Key attributes of the item.
    pub key: Attributes,
    /// The same as one text; see [`place`](crate::place()).
    pub place: String,
    /// It went, without a tombstone, before `change`: what was known of its versions no longer holds.
    pub gone_before: bool,
    /// Nothing was at its place before one of these changes: its versions begin at 1 again, whatever is known
    /// of them.
    pub into_empty: bool,
    /// The newest state; [`Change::Put`] or [`Change::Deleted`].
    pub change: Option<Change>,
    /// It went, without a tombstone, after `change`.
    pub gone_after: bool,
    /// The item that DynamoDB removed then, by its expiry, or a tombstone; `None` where another program took
    /// the item of a row.
    pub removed_after: Option<Attributes>,
}
