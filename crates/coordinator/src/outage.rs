//! Waiting for a store that is away, for as long as it takes, and telling of it: each cause once, and its
//! end.
//!
//! What must keep running does not end with a failover, a password that is rotated, or an answer that was
//! never seen before (I18): 1. A relay ends with the first error. 2. Pending grows over a weekend; in
//! DynamoOnly, the day runs out for which streams keep a change. 3. It had been a matter of minutes.

use std::collections::HashSet;
use std::time::Duration;

use lockstep_core::{Error as StoreError, Kind};
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::CoordinatorError;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// A try costs a connection. 1. A store is away for a minute. 2. Each pause is twice the one before. 3. The
/// store is back, and what waits for it would go on waiting for half a minute.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// Shortest outage that is told of, unless a person has to act.
const UNTOLD: Duration = Duration::from_secs(1);
/// A cause that comes back within this was not over in between: a part that begins well each time, and fails
/// each time at the same place once its own tries are used up, is as stuck as one that does not begin.
const SAME_WITHIN: Duration = Duration::from_mins(5);

/// One outage after the other, of a process that runs until told to stop.
#[derive(Debug)]
pub struct Outage {
    what: &'static str,
    since: Option<Instant>,
    told: HashSet<String>,
    pause: Duration,
    /// The newest cause, and when it was met.
    last: Option<(String, Instant)>,
}

impl Outage {
    /// Makes the record of `what` (`the relay`), which goes well so far.
    pub fn new(what: &'static str) -> Self {
        Self { what, since: None, told: HashSet::new(), pause: PAUSE_FIRST, last: None }
    }

    /// Returns the error of a store, if it is one that may pass by itself for a process that `began_well`;
    /// everything else is handed back.
    ///
    /// # Errors
    /// `error`, unchanged.
    pub fn passing(error: CoordinatorError, began_well: bool) -> Result<StoreError, CoordinatorError> {
        match error {
            CoordinatorError::Store(error) if error.kind.may_pass(error.side, began_well) => Ok(error),
            other => Err(other),
        }
    }

    /// Tells whether it is what was met last, minutes ago at most: then nothing is over, however well it
    /// began.
    pub fn is_again(&self, error: &StoreError) -> bool {
        self.last.as_ref().is_some_and(|(last, at)| *last == cause(error) && at.elapsed() < SAME_WITHIN)
    }

    /// Tells of a cause that is new, and waits before the next try; says whether there is to be one.
    ///
    /// # Cancel safety
    /// Dropped, it has told or not.
    #[crate::boxed]
    pub async fn wait(&mut self, error: &StoreError, cancel: &CancellationToken) -> bool {
        let pause = self.met(error);
        cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }

    /// Tells of a cause that is new, and returns the pause before the next try.
    pub(crate) fn met(&mut self, error: &StoreError) -> Duration {
        let since = *self.since.get_or_insert_with(Instant::now);
        let for_a_person = matches!(error.kind, Kind::Denied | Kind::Misconfigured);
        if for_a_person || since.elapsed() >= UNTOLD {
            self.tell(error);
        }
        self.last = Some((cause(error), Instant::now()));
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.pause = (self.pause * 2).min(PAUSE_LONGEST);
        pause
    }

    /// It works again. Says for how long it did not, if that was told of.
    pub fn over(&mut self) -> Option<Duration> {
        self.pause = PAUSE_FIRST;
        let lasted = self.since.take()?.elapsed();
        if self.told.is_empty() {
            return None;
        }
        self.told.clear();
        tracing::warn!("{} goes on, after {:.0} s", self.what, lasted.as_secs_f64());
        Some(lasted)
    }

    /// Causes that were told of since it last worked.
    pub fn told(&self) -> usize {
        self.told.len()
    }

    fn tell(&mut self, error: &StoreError) {
        // The same cause comes up wherever the store is asked.
        if self.told.insert(cause(error)) {
            tracing::warn!("{} waits and tries again until it is stopped: {error}", self.what);
        }
    }
}

fn cause(error: &StoreError) -> String {
    format!("{}: {}", error.side, error.message)
}

#[cfg(test)]
mod tests {
    use lockstep_core::Side;

    use super::*;

    fn error(kind: Kind, message: &str) -> StoreError {
        StoreError::target(kind, "writing", message)
    }

    #[tokio::test(start_paused = true)]
    async fn each_cause_is_told_once_and_the_end_of_it() {
        let (mut outage, never) = (Outage::new("the relay"), CancellationToken::new());
        assert!(outage.over().is_none(), "nothing was wrong");
        for _ in 0..3 {
            assert!(outage.wait(&error(Kind::Denied, "AccessDeniedException: no"), &never).await);
            assert!(outage.wait(&error(Kind::Misconfigured, "ValidationException: what"), &never).await);
        }
        assert_eq!(outage.told(), 2);
        assert!(outage.over().is_some());
        assert_eq!(outage.told(), 0);
        assert!(outage.wait(&error(Kind::Unavailable, "a blink"), &never).await);
        assert!(outage.over().is_none(), "what passes at once is not told of");
    }

    #[tokio::test]
    async fn what_is_met_again_is_known_and_another_cause_is_not() {
        let (mut outage, never) = (Outage::new("the relay"), CancellationToken::new());
        assert!(!outage.is_again(&error(Kind::Busy, "held")), "nothing was met yet");
        assert!(outage.wait(&error(Kind::Busy, "held"), &never).await);
        assert!(outage.is_again(&error(Kind::Busy, "held")) && !outage.is_again(&error(Kind::Busy, "away")));
    }

    #[tokio::test]
    async fn a_part_that_is_told_to_stop_does_not_wait() {
        let (mut outage, cancelled) = (Outage::new("the relay"), CancellationToken::new());
        cancelled.cancel();
        assert!(!outage.wait(&error(Kind::Unavailable, "away"), &cancelled).await);
    }

    #[test]
    fn what_is_understood_and_will_not_pass_ends_it_and_nothing_else_does() {
        let passes = |kind, side, began_well| {
            let store = match side {
                Side::Source => StoreError::source(kind, "asking", "why"),
                Side::Target => error(kind, "why"),
            };
            Outage::passing(CoordinatorError::Store(store), began_well).is_ok()
        };
        for side in [Side::Source, Side::Target] {
            for began_well in [false, true] {
                for kind in [Kind::Throttled, Kind::Unavailable, Kind::Unknown, Kind::Busy, Kind::Fenced] {
                    assert!(passes(kind, side, began_well), "{side} {kind:?}");
                }
                assert!(!passes(Kind::Refused, side, began_well) && !passes(Kind::Invalid, side, began_well));
                assert_eq!(passes(Kind::Denied, side, began_well), began_well);
            }
        }
        assert!(
            passes(Kind::Misconfigured, Side::Target, true)
                && !passes(Kind::Misconfigured, Side::Source, true)
        );
        assert!(Outage::passing(CoordinatorError::HistoryLost(Vec::new()), true).is_err());
    }
}
