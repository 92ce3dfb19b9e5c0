//! Listing shards, seldom: DynamoDB answers ten DescribeStream a second, for all who ask together, with a
//! hundred shards each.
//!
//! So tasks that share a handle on the target share its listings as well, and all of them together ask no
//! more than five times a second: the other five are those of another process. 1. A step looks every few
//! milliseconds how far the feeds are. 2. Each look listed the shards, as the feeds did themselves. 3.
//! DynamoDB throttled them all, and the step failed.
//!
//! A step that has stopped writes goes first, and the feeds wait meanwhile. 1. Fifteen feeds list their
//! shards once a second, which is more than is allowed, so that they queue. 2. The step stops writes,
//! lists each stream once, and stands behind them. 3. The pause is over before it has asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::api::Shard;

/// Age up to which the feed makes do with an earlier listing.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(1);
const CALLS_PER_S: f64 = 5.0;
/// Time for which others wait after a call that goes first: the next one may come of its answer.
const FIRST_FOR: Duration = Duration::from_millis(500);

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
    /// Calls that were made so far.
    made: Mutex<Made>,
    /// Place of the one that asks next, of those that let others go first.
    next: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Made {
    /// Moment at which they are paid for.
    paid_at: Option<Instant>,
    /// Moment until which those that go first have others wait.
    first_until: Option<Instant>,
}

impl Made {
    /// Takes a call more; for how long it has to wait. Up to a second's worth is made at once.
    fn take(&mut self, now: Instant) -> Duration {
        let begin = self.paid_at.map_or(now, |at| at.max(now)) + Duration::from_secs_f64(1.0 / CALLS_PER_S);
        self.paid_at = Some(begin);
        begin.saturating_duration_since(now + Duration::from_secs(1))
    }
}

impl Listings {
    pub(super) fn of(&self, arn: &str) -> Slot {
        Arc::clone(lock(&self.0.slots).entry(arn.to_owned()).or_default())
    }

    /// Waits until one more call may be made, and none goes first.
    pub(super) async fn turn(&self) {
        let _next = self.0.next.lock().await;
        loop {
            let (now, wait) = {
                let (now, mut made) = (Instant::now(), lock(&self.0.made));
                let mut taken = *made;
                let of_others = made.first_until.map_or(Duration::ZERO, |until| until.duration_since(now));
                let wait = taken.take(now).max(of_others);
                if wait.is_zero() {
                    *made = taken;
                    return;
                }
                (now, wait)
            };
            tokio::time::sleep_until(now + wait).await;
        }
    }

    /// Waits until one more call may be made, before those of [`Self::turn`].
    pub(super) async fn turn_first(&self) {
        let (now, wait) = {
            let (now, mut made) = (Instant::now(), lock(&self.0.made));
            let wait = made.take(now);
            made.first_until = made.first_until.max(Some(now + wait + FIRST_FOR));
            (now, wait)
        };
        tokio::time::sleep_until(now + wait).await;
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

    #[tokio::test(start_paused = true)]
    async fn a_step_waits_for_none_of_the_feeds_that_queue_and_all_keep_to_the_rate() {
        let listings = Listings::default();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let feeds = (0..15).map(|_| {
            let (listings, calls) = (listings.clone(), calls.clone());
            tokio::spawn(async move {
                for _ in 0..4 {
                    listings.turn().await;
                    lock(&calls).push(Instant::now());
                    tokio::time::sleep(FRESH_FOR).await;
                }
            })
        });
        let feeds: Vec<_> = feeds.collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begun = Instant::now();
        for _ in 0..15 {
            listings.turn_first().await;
            lock(&calls).push(Instant::now());
        }
        assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
        for feed in feeds {
            feed.await.expect("each has its turns, too");
        }
        let calls = lock(&calls).clone();
        let most = |from: Instant| {
            calls.iter().filter(|at| **at >= from && **at < from + Duration::from_secs(1)).count()
        };
        assert_eq!(calls.len(), 75);
        assert!(calls.iter().all(|at| most(*at) <= 10), "{calls:?}");
    }
}
