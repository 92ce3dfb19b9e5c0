//! Listing shards, seldom: DynamoDB answers ten DescribeStream a second, for all who ask together, with a
//! hundred shards each.
//!
//! So tasks that share a handle on the target share its listings as well, and all of them together ask no
//! more than five times a second: the other five are those of another process. 1. A step looks every few
//! milliseconds how far the feeds are. 2. Each look listed the shards, as the feeds did themselves. 3.
//! DynamoDB throttled them all, and the step failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::api::Shard;

/// Age up to which the feed makes do with an earlier listing.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(1);
const CALLS_PER_S: f64 = 5.0;

/// A listing, and when it was begun.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) begun: Instant,
    pub(super) shards: Vec<Shard>,
}

/// The newest listing of one stream. The task that holds it lists, and the others wait for what comes of it.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Listed>>>;

/// The listings of all streams. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listings(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    slots: Mutex<HashMap<String, Slot>>,
    /// Moment at which the calls made so far are paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Listings {
    pub(super) fn of(&self, arn: &str) -> Slot {
        Arc::clone(lock(&self.0.slots).entry(arn.to_owned()).or_default())
    }

    /// Waits until one more call may be made.
    pub(super) async fn turn(&self) {
        let wait = {
            let (now, each) = (Instant::now(), Duration::from_secs_f64(1.0 / CALLS_PER_S));
            let mut paid_at = lock(&self.0.paid_at);
            let begin = paid_at.map_or(now, |at| at.max(now)) + each;
            *paid_at = Some(begin);
            // Up to a second's worth at once.
            begin.saturating_duration_since(now + Duration::from_secs(1))
        };
        tokio::time::sleep(wait).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_ten_calls_however_many_ask() {
        let (listings, begun) = (Listings::default(), Instant::now());
        let mut calls = Vec::new();
        for _ in 0..50 {
            listings.turn().await;
            calls.push(begun.elapsed());
        }
        let most = calls.iter().map(|at| {
            calls.iter().filter(|call| **call >= *at && **call < *at + Duration::from_secs(1)).count()
        });
        assert!(most.max().expect("some") <= 10, "{calls:?}");
        assert!(calls.last().expect("some") < &Duration::from_secs(10), "and they are made");
    }
}
