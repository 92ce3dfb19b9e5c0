//! The expiry of tombstones: one goes by itself only once the migration is complete, and long after any
//! request that it outranks.
//!
//! Before the completion a tombstone has no expiry. 1. A backfill, a relay or a way back may bring a state
//! that is older than the deletion. 2. How old it can be has no bound that holds for all of them: a backfill
//! that was paused, a feed that reads its stream again, a source that was restored. 3. Over a tombstone that
//! has expired, the deleted row comes back. They are one a deleted key, and the completion takes
//! them out where it is asked to.
//!
//! After the completion no process brings states any more: each write of a store is conditional on what it
//! has read at its place. An update or a deletion that arrives late finds nothing and is refused. Only an
//! insert into an empty place can pass, and only until its request is dead, half an hour after it was signed;
//! [`KEPT_S`] is four thousand times that, so a clock may be wrong by weeks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{
    AttributeValue, Epoch, Item, TTL_ATTRIBUTE, TargetKey, VERSION_ATTRIBUTE, Version, tombstone,
};
use tokio::time::{Instant, timeout_at};

use crate::store::Writer;

/// Time, in seconds, for which a tombstone of after the completion is kept.
const KEPT_S: i64 = 90 * 24 * 3_600;
/// Longest wait for the record: the deletion itself has to be sent within the same deadline.
const ASKED_FOR: Duration = Duration::from_millis(250);

impl Writer {
    /// The time, in seconds since 1970, at which a tombstone that is put now may go; `None` where it stays,
    /// and where that cannot be told until `deadline`. Asks once an epoch.
    pub(super) async fn tombstones_go_at_s(&self, epoch: Epoch, deadline: Instant) -> Option<i64> {
        let since = match self.retiring().known(epoch) {
            Some(since) => since,
            None => {
                // A record of before this epoch would be one that was set back, and says nothing.
                let record = timeout_at(deadline.min(Instant::now() + ASKED_FOR), self.control().record())
                    .await
                    .ok()?
                    .ok()
                    .flatten();
                let record = record.filter(|record| record.epoch >= epoch)?;
                self.retiring().learn(epoch, record.completed_at);
                record.completed_at
            }
        };
        since.map(|since| goes_at_s(since, Utc::now()))
    }
}

/// A clock that is months behind would have a tombstone go at once, so it is held against when the migration
/// was completed.
fn goes_at_s(completed_at: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    completed_at.max(now).timestamp().saturating_add(KEPT_S)
}

/// A tombstone whose version is set when it is named.
pub(super) fn nameless_tombstone(key: TargetKey, goes_at_s: Option<i64>) -> Item {
    let mut parts = tombstone(key, Version::INITIAL_LOAD).into_parts();
    parts.retain(|(name, _)| *name != VERSION_ATTRIBUTE);
    let mut item = Item::with_capacity(parts.len() + 1);
    parts.into_iter().for_each(|(name, value)| item.push(name, value));
    if let Some(at_s) = goes_at_s {
        item.push(TTL_ATTRIBUTE, AttributeValue::N(at_s.to_string()));
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_has_an_expiry_only_after_the_completion_and_then_a_distant_one() {
        let key = TargetKey { partition: AttributeValue::N("1".to_owned()), sort: None };
        assert!(nameless_tombstone(key.clone(), None).get(TTL_ATTRIBUTE).is_none());
        let item = nameless_tombstone(key, Some(7));
        assert_eq!(item.get(TTL_ATTRIBUTE), Some(&AttributeValue::N("7".to_owned())));
        assert!(item.get(VERSION_ATTRIBUTE).is_none(), "it is given when the item is named");
        let (completed, request_s) = (DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000), 1_800);
        for late_days in [-4_000, -1, 0, 1, 400] {
            let now = completed + chrono::TimeDelta::days(late_days);
            let left_s = goes_at_s(completed, now) - completed.max(now).timestamp();
            assert!(left_s > 1_000 * request_s, "{late_days} days after the completion by this clock");
        }
    }
}
