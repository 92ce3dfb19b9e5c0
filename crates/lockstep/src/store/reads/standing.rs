//! Standing of the target: how far it is behind, as this instance knows it; asked for on demand, so an idle
//! instance asks nothing.
//!
//! What is known wears out. A key that was not pending when we asked can be as old as the time since then,
//! and one that had waited for `age` has waited that much longer. So what is known holds until the moment
//! when something *could* be older than the bound, and reads refresh it long before that, in the background.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::{Error, Kind, Result};
use lockstep_postgres::{Oldest, Source, Standing, TableBinding};

use super::ReadOptions;
use super::deferred::Deferred;
use super::route::Seen;
use crate::central::Central;
use crate::phase::Moment;

/// Longest that a read waits to learn how far the target is behind; the source is taken to be away after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The one who asks, for one table.
pub(super) struct Watch {
    source: Source,
    table: &'static str,
    pub(super) deferred: Deferred,
    max_staleness_ms: AtomicU64,
    poll_ms: AtomicU64,
    began: Instant,
    /// The last answer, under a lock so that no reader sees half of it. Each read that looks asks a store
    /// next, which takes a round trip; the lock is held for a comparison of three numbers.
    known: Mutex<Known>,
    asking: tokio::sync::Mutex<()>,
    /// Number of keys that this process has written, or may have.
    writes: AtomicU64,
    central: Arc<Central>,
}

/// The standing as the last answer said it. Times are in milliseconds since the [`Watch`] began.
struct Known {
    seen: Seen,
    /// Moment until which it holds, by both clocks: the monotonic one stands still while the machine sleeps.
    holds_until: Moment,
    /// Bound on staleness, in milliseconds, by which it was judged.
    judged_by_ms: u64,
    /// Time of the next question.
    ask_at_ms: u64,
}

impl Known {
    /// The standing before the first answer, and after the bound was changed: to be asked for at once.
    const NOTHING: Self =
        Self { seen: Seen::UsedUp, holds_until: Moment::LONG_AGO, judged_by_ms: 0, ask_at_ms: 0 };

    /// Returns what holds at `now` by a bound of `bound_ms`.
    fn at(&self, now: Moment, bound_ms: u64) -> Seen {
        let holds = now.is_before(self.holds_until) && self.judged_by_ms == bound_ms;
        if holds { self.seen } else { Seen::UsedUp }
    }
}

impl Watch {
    pub(super) fn new(
        source: Source,
        binding: &TableBinding,
        options: &ReadOptions,
        central: Arc<Central>,
    ) -> Self {
        Self {
            source,
            table: binding.name(),
            deferred: Deferred::new(binding.table.clone()),
            max_staleness_ms: AtomicU64::new(options.max_staleness_ms),
            poll_ms: AtomicU64::new(options.standing_poll_ms),
            began: Instant::now(),
            known: Mutex::new(Known::NOTHING),
            asking: tokio::sync::Mutex::new(()),
            writes: AtomicU64::new(0),
            central,
        }
    }

    pub(super) fn configure(&self, options: &ReadOptions) {
        self.max_staleness_ms.store(options.max_staleness_ms, Ordering::Relaxed);
        self.poll_ms.store(options.standing_poll_ms, Ordering::Relaxed);
        // The cached standing was judged by the old bound.
        *self.known() = Known::NOTHING;
    }

    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            max_staleness_ms: self.bound_ms(),
            standing_poll_ms: self.poll_ms.load(Ordering::Relaxed),
            ..ReadOptions::default()
        }
    }

    /// A write of a key has ended, or may have.
    pub(super) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// Number of those so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// The bound in force.
    pub(super) fn bound_ms(&self) -> u64 {
        self.central.staleness_ms().unwrap_or_else(|| self.max_staleness_ms.load(Ordering::Relaxed))
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The standing as it is known now; starts asking again in the background when it is time to. Never
    /// waits.
    pub(super) fn look(self: &Arc<Self>) -> Seen {
        let (now, bound) = (self.now_ms(), self.bound_ms());
        let (seen, is_due) = {
            let mut known = self.known();
            let seen = known.at(Moment::now(), bound);
            let is_due = seen != Seen::UsedUp && now >= known.ask_at_ms;
            if is_due {
                // One of many readers has the turn to ask.
                known.ask_at_ms = self.next_turn(now);
            }
            (seen, is_due)
        };
        if is_due {
            let watch = self.clone();
            // It ends by itself within the time-out, and holds nothing that outlives the store.
            tokio::spawn(async move {
                if let Ok(_turn) = watch.asking.try_lock() {
                    watch.ask().await;
                }
            });
        }
        seen
    }

    /// The standing after asking, if no other task has asked meanwhile. Waits for [`ANSWER_TIMEOUT`] at most
    /// per asker.
    pub(super) async fn refreshed(self: &Arc<Self>) -> Seen {
        let _turn = self.asking.lock().await;
        let seen = self.known().at(Moment::now(), self.bound_ms());
        if seen != Seen::UsedUp {
            return seen;
        }
        // The answer itself, not what is left of it: with a very small bound it is used up when it arrives.
        self.ask().await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_turn(&self, now_ms: u64) -> u64 {
        now_ms + self.poll_ms.load(Ordering::Relaxed)
    }

    /// Asks the source, and lets deferred keys go that have arrived.
    async fn ask(&self) -> Seen {
        let (asked_at, asked_at_ms) = (Instant::now(), self.now_ms());
        let late =
            || Error::source(Kind::Unknown, "asking how far the target is behind", "no answer in time");
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.question(asked_at))
            .await
            .unwrap_or_else(|_| Err(late()));
        let bound = self.bound_ms();
        let now = self.now_ms();
        let (seen, holds_until_ms) = judge(answer.as_ref().ok(), bound, asked_at_ms, self.next_turn(now));
        if let Err(error) = &answer {
            tracing::debug!(table = self.table, kind = ?error.kind, "not known how far the target is behind: {error}");
        }
        let ask_at_ms = self.next_turn(now);
        let holds_for = Duration::from_millis(holds_until_ms.saturating_sub(asked_at_ms));
        let holds_until = Moment::of(asked_at).plus(holds_for);
        *self.known() = Known { seen, holds_until, judged_by_ms: bound, ask_at_ms };
        seen
    }

    async fn question(&self, asked_at: Instant) -> Result<Standing> {
        let taken = self.deferred.take();
        let standing = self.source.standing(self.table).await?;
        let still = match taken.keys.is_empty() {
            true => Vec::new(),
            false => self.source.pending_among(self.table, &taken.keys).await?,
        };
        let oldest = match standing.oldest {
            Oldest::None => None,
            Oldest::Age(age) => Some(age),
            Oldest::TooMany => Some(Duration::MAX),
        };
        self.deferred.take_out(&taken, &still, oldest, asked_at);
        Ok(standing)
    }
}

/// The meaning of an answer, and the time until which it holds.
fn judge(answer: Option<&Standing>, bound_ms: u64, asked_at_ms: u64, next_turn_ms: u64) -> (Seen, u64) {
    // Being away or behind holds a little longer than until the next question, so that reads do not wait for
    // its answer.
    let until_answered = next_turn_ms + 2 * ANSWER_TIMEOUT.as_millis() as u64;
    let Some(standing) = answer else { return (Seen::Alone, until_answered) };
    let age_ms = match standing.oldest {
        Oldest::None => 0,
        Oldest::Age(age) => u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        Oldest::TooMany => u64::MAX,
    };
    // The age was taken after the question was sent, so counting from then is on the safe side.
    match bound_ms.checked_sub(age_ms) {
        None => (Seen::Stale, until_answered),
        Some(left_ms) => {
            let fresh = Seen::Fresh { dead_letters: standing.dead_letters };
            (fresh, asked_at_ms.saturating_add(left_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(oldest: Oldest) -> Standing {
        Standing { oldest, dead_letters: false }
    }

    #[track_caller]
    fn check(oldest: Oldest, expected: (Seen, u64)) {
        assert_eq!(judge(Some(&standing(oldest)), 5_000, 100, 1_100), expected);
    }

    #[test]
    fn what_is_known_holds_until_something_pending_could_be_too_old() {
        let fresh = Seen::Fresh { dead_letters: false };
        check(Oldest::None, (fresh, 5_100));
        check(Oldest::Age(Duration::from_millis(4_200)), (fresh, 900));
        check(Oldest::Age(Duration::from_millis(5_001)), (Seen::Stale, 3_100));
        check(Oldest::TooMany, (Seen::Stale, 3_100));
        assert_eq!(
            judge(None, 5_000, 100, 1_100),
            (Seen::Alone, 3_100),
            "no answer is neither fresh nor stale (I8)"
        );
    }
}
