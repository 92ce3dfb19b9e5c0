//! The time for which no application writes, and its bound.

use std::time::{Duration, Instant};

use lockstep_core::Phase;
use serde::Serialize;

use crate::error::{CoordinatorError, Result};

/// Time for which writes waited, and what they waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PauseSummary {
    /// Time from when the first write had to wait until writes may go on, in milliseconds.
    pub took_ms: f64,
    /// Time that it was allowed to take, in milliseconds.
    pub allowed_ms: u64,
    /// Parts of the pause, in order.
    pub parts: Vec<PausePart>,
}

/// One part of a pause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PausePart {
    /// Description of what was waited for.
    pub what: &'static str,
    /// Length of this part, in milliseconds.
    pub took_ms: f64,
}

/// A pause under way.
#[derive(Debug)]
pub(crate) struct Pause {
    to: Phase,
    begun: Instant,
    allowed: Duration,
    last: Instant,
    parts: Vec<PausePart>,
}

impl Pause {
    /// Begins to count the pause of a step to `to`, of which `allowed` is the bound.
    pub(crate) fn begin(to: Phase, allowed: Duration) -> Self {
        let begun = Instant::now();
        Self { to, begun, allowed, last: begun, parts: Vec::new() }
    }

    /// Returns what is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.begun.elapsed())
    }

    /// Makes the error of a pause whose bound was missed over something. It has each part, as the last is
    /// seldom the longest: 1. The feed of fifteen tables takes all but a moment. 2. A comparison of some keys
    /// is still at it when the bound is over. 3. An operator looks for what is wrong with comparisons.
    pub(crate) fn missed(&self, why: impl Into<String>) -> CoordinatorError {
        let (mut why, parts) = (why.into(), &self.parts);
        if !parts.is_empty() {
            let told = parts.iter().map(|part| format!("{} {:.0} ms", part.what, part.took_ms));
            why += &format!(" (before that: {})", told.collect::<Vec<_>>().join(", "));
        }
        let allowed_ms = u64::try_from(self.allowed.as_millis()).unwrap_or(u64::MAX);
        CoordinatorError::PauseMissed { to: self.to, allowed_ms, why }
    }

    /// Does a part of it, within what is left.
    ///
    /// # Errors
    /// The part's; [`CoordinatorError::PauseMissed`] when it takes too long. It is dropped then.
    pub(crate) async fn within<T>(
        &mut self,
        what: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let done = tokio::time::timeout(self.left(), work).await;
        let done = done.unwrap_or_else(|_| Err(self.missed(format!("it was still waiting: {what}"))))?;
        self.ended(what);
        Ok(done)
    }

    /// A part has ended.
    pub(crate) fn ended(&mut self, what: &'static str) {
        let now = Instant::now();
        self.parts.push(PausePart { what, took_ms: millis(now - self.last) });
        self.last = now;
    }

    /// Ends the pause, and returns how long it took and over what.
    pub(crate) fn end(self) -> PauseSummary {
        let allowed_ms = u64::try_from(self.allowed.as_millis()).unwrap_or(u64::MAX);
        PauseSummary { took_ms: millis(self.begun.elapsed()), allowed_ms, parts: self.parts }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_takes_longer_than_is_left_misses_the_bound_and_says_over_what() {
        let mut pause = Pause::begin(Phase::DynamoOnly, Duration::from_millis(20));
        pause.within("a look", async { Ok(()) }).await.expect("in time");
        let missed =
            pause.within("the rest", std::future::pending::<Result<()>>()).await.expect_err("too long");
        let told = missed.to_string();
        assert!(told.contains("DynamoOnly") && told.contains("the rest") && told.contains("20 ms"), "{told}");
        assert!(told.contains("before that: a look "), "{told}");
        let summary = pause.end();
        assert_eq!(summary.parts.iter().map(|part| part.what).collect::<Vec<_>>(), ["a look"]);
    }
}
