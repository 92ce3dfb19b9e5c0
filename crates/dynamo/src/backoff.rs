//! Waiting before trying again: exponential, with full jitter, bounded.

use std::time::Duration;

use rand::RngExt;

use lockstep_core::{Error, Result, Retry};

/// Longest pause of work that is patient: as of everything else that waits for a store, so that what waits
/// goes on within seconds of its coming back.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// A bounded series of growing, jittered pauses.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    tries_left: u32,
}

impl Backoff {
    /// `tries` pauses, starting at about `first` and doubling up to `longest`.
    pub fn new(first: Duration, longest: Duration, tries: u32) -> Self {
        Self { next: first, longest, tries_left: tries }
    }

    /// For a caller who has somewhere else to go: the first failure is the last.
    pub fn none() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO, 0)
    }

    /// For work that must not give up lightly: about five minutes in all, and never long between two tries.
    ///
    /// 1. DynamoDB is away for a minute, in the middle of a step. 2. Pauses have grown to ten seconds. 3. It
    /// is back, and applications may write ten seconds later, or twice that where two tries come one after
    /// the other.
    pub fn patient() -> Self {
        Self::new(Duration::from_millis(25), PAUSE_LONGEST, 275)
    }

    /// For a caller who waits for the answer: well under two seconds in all.
    pub fn brief() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_millis(400), 6)
    }

    /// Repeats `call` while that can help.
    ///
    /// # Errors
    /// The last one's, when trying again cannot help or no try is left.
    pub async fn retry<T, F: Future<Output = Result<T>>>(mut self, mut call: impl FnMut() -> F) -> Result<T> {
        loop {
            match call().await {
                Err(error) if error.kind.retry() != Retry::Never => self.pause(error).await?,
                other => return other,
            }
        }
    }

    /// Waits before the next try, or hands `error` back when there is none left.
    ///
    /// # Errors
    /// `error`, unchanged.
    #[crate::boxed]
    pub async fn pause(&mut self, error: Error) -> Result<()> {
        let Some(left) = self.tries_left.checked_sub(1) else { return Err(error) };
        self.tries_left = left;
        // Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): workers that were throttled
        // together must not come back together.
        let pause = self.next.mul_f64(rand::rng().random_range(0.1..=1.0));
        self.next = (self.next * 2).min(self.longest);
        tracing::debug!(kind = ?error.kind, pause_ms = pause.as_millis() as u64, tries_left = left, "trying again: {error}");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Kind;
    use tokio::time::Instant;

    use super::*;

    /// However long a store was away, and whichever way it is waited for: the next try comes within seconds.
    #[tokio::test(start_paused = true)]
    async fn no_pause_is_longer_than_two_seconds_and_the_patient_wait_for_minutes() {
        for (mut backoff, least, most) in [
            (Backoff::patient(), Duration::from_secs(200), Duration::from_secs(400)),
            (Backoff::brief(), Duration::ZERO, Duration::from_secs(2)),
            (Backoff::none(), Duration::ZERO, Duration::ZERO),
        ] {
            let begun = Instant::now();
            loop {
                let before = Instant::now();
                let error = Error::target(Kind::Unavailable, "asking", "away");
                if backoff.pause(error).await.is_err() {
                    break;
                }
                assert!(before.elapsed() <= PAUSE_LONGEST, "{:?}", before.elapsed());
            }
            let waited = begun.elapsed();
            assert!(waited >= least && waited <= most, "{waited:?}");
        }
    }
}
