//! Trying again for a lock that a transaction of an application holds. Each try is short, and the pauses let
//! writers through: so it is the caller that waits for a long transaction, and no writer behind the caller.

use std::time::Duration;

use lockstep_core::{Kind, Result};
use rand::RngExt;

/// Number of tries for a lock, and the pauses between, which double.
pub(super) struct LockTries {
    tries: u32,
    first: Duration,
    longest: Duration,
}

/// Tries for the lock of a table: about two minutes in all.
pub(super) const TABLE: LockTries =
    LockTries { tries: 120, first: Duration::from_millis(900), longest: Duration::from_millis(900) };
/// Tries for the barrier: less than a minute in all.
pub(super) const BARRIER: LockTries =
    LockTries { tries: 31, first: Duration::from_millis(50), longest: Duration::from_secs(2) };

impl LockTries {
    /// Repeats `attempt` while it ends with [`Kind::Busy`].
    ///
    /// # Errors
    /// The attempt's; the last [`Kind::Busy`] when no try is left.
    pub(super) async fn repeat<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (mut pause, mut tries_left) = (self.first, self.tries);
        loop {
            tries_left -= 1;
            match attempt().await {
                Err(error) if error.kind == Kind::Busy && tries_left > 0 => {
                    tracing::info!(tries_left, "a transaction holds a lock; trying again: {error}");
                }
                done => return done,
            }
            // Callers that were refused together do not come back together.
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(self.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use lockstep_core::Error;

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
}
