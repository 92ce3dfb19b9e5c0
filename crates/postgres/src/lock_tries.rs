//! Trying again for a lock that another session holds. Each try is short, and the pauses let
//! writers through: so it is the caller that waits for a long transaction, and no writer behind the caller.

use std::time::Duration;

use lockstep_core::{Error, Kind, Result};
use rand::RngExt;

/// Number of tries for a lock, and the pauses between, which double. It is the one loop that waits for a lock
/// of an application: what is tried has a lock time-out of its own.
#[derive(Clone, Copy, Debug)]
pub struct LockTries {
    /// Most tries; one at least is made.
    pub tries: u32,
    /// Pause after the first try.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

/// Tries for the lock of a table: about two minutes in all.
pub(super) const TABLE: LockTries =
    LockTries { tries: 120, first: Duration::from_millis(900), longest: Duration::from_millis(900) };
/// Tries for the barrier: less than a minute in all, pauses in the middle of their range.
pub(super) const BARRIER: LockTries =
    LockTries { tries: 27, first: Duration::from_millis(50), longest: Duration::from_secs(2) };

impl LockTries {
    /// Tries for a lock about `every` so often, for as long as `within`.
    pub fn within(within: Duration, every: Duration) -> Self {
        let tries = u32::try_from(within.as_millis() / every.as_millis().max(1)).unwrap_or(u32::MAX);
        Self { tries: tries.saturating_add(1), first: every, longest: every }
    }

    /// Repeats `attempt` while it ends with [`Kind::Busy`].
    ///
    /// # Errors
    /// The attempt's; the last [`Kind::Busy`] when no try is left.
    ///
    /// # Cancel safety
    /// That of `attempt`.
    pub async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let is_busy = |error: &Error| error.kind == Kind::Busy;
        let again = |tries: u32, error: Error| {
            tracing::info!(tries, of = self.tries, "a session holds a lock; trying again: {error}");
            std::future::ready(Ok(()))
        };
        self.repeat_if(attempt, is_busy, again).await.map(|(_, done)| done)
    }

    /// Repeats `attempt` while it ends with an error that `is_busy` says is one of a lock; `again` gets the
    /// number of the try and its error before each pause, and an error of its own ends the tries. Returns the
    /// number of tries as well.
    ///
    /// # Errors
    /// The attempt's, also that of the last try; what `again` returns.
    ///
    /// # Cancel safety
    /// That of `attempt` and `again`.
    pub async fn repeat_if<T, E, F, G>(
        &self,
        attempt: impl Fn() -> F,
        is_busy: impl Fn(&E) -> bool,
        again: impl Fn(u32, E) -> G,
    ) -> Result<(u32, T), E>
    where
        F: Future<Output = Result<T, E>>,
        G: Future<Output = Result<(), E>>,
    {
        let (mut pause, mut tries) = (self.first, 1);
        loop {
            match attempt().await {
                Err(error) if tries < self.tries && is_busy(&error) => again(tries, error).await?,
                done => return done.map(|done| (tries, done)),
            }
            // Callers that were refused together do not come back together.
            let jittered = pause.mul_f64(rand::rng().random_range(0.75..=1.25));
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(self.longest);
            tries += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn tried(kind: Kind) -> (u32, Kind) {
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(Error::source(kind, "locking", "held"))
        };
        let tried = LockTries { tries: 4, first: Duration::from_secs(1), longest: Duration::from_secs(2) };
        let error = tried.repeat(attempt).await.expect_err("it is never let in");
        (tries.get(), error.kind)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_tried_for_as_often_as_is_said_and_anything_else_once() {
        assert_eq!(tried(Kind::Busy).await, (4, Kind::Busy));
        assert_eq!(tried(Kind::Denied).await, (1, Kind::Denied));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_between_two_tries_ends_them_and_tries_are_counted() {
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err("held") } else { Ok("in") }
        };
        let tried = LockTries::within(Duration::from_secs(2), Duration::from_secs(1));
        let is_busy = |error: &&str| *error == "held";
        assert_eq!(tried.repeat_if(attempt, is_busy, |_, _| std::future::ready(Ok(()))).await, Ok((3, "in")));
        tries.set(0);
        let stop = |_, _| std::future::ready(Err("told to stop"));
        assert_eq!(tried.repeat_if(attempt, is_busy, stop).await, Err("told to stop"));
        assert_eq!(tries.get(), 1, "nothing is tried again after that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_tried_for_within_the_time_and_no_shorter_than_half_of_it() {
        let begun = tokio::time::Instant::now();
        let attempt = || async { Err::<(), _>(Error::source(Kind::Busy, "locking", "held")) };
        let tried = LockTries::within(Duration::from_secs(10), Duration::from_millis(100));
        tried.repeat(attempt).await.expect_err("it is never let in");
        let took = begun.elapsed();
        assert!((Duration::from_secs(7)..Duration::from_secs(13)).contains(&took), "{took:?}");
    }
}
