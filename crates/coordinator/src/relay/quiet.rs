//! What a relay does while nothing changes: it looks by one statement, more and more rarely.
//!
//! A whole turn asks each table a dozen things, which protect what is about to be delivered: the contract,
//! the phase, the shape, both histories. While there is nothing to deliver they protect nothing, and a source
//! that nobody writes answered a hundred statements a second. So a turn that met nothing is followed by
//! glances, and the first difference is followed by a whole turn, before anything is delivered.

use std::time::{Duration, Instant};

use lockstep_postgres::{Glance, Source};
use tokio_util::sync::CancellationToken;

/// Nothing is looked at more rarely than this, so the first change after a long calm waits for so long at
/// most.
const PAUSE_MOST: Duration = Duration::from_millis(1_500);
/// The pause is this part of the calm before it: who writes once a second does not wait longer than before.
const PART_OF_CALM: u32 = 20;
/// A whole turn is made so often all the same: it notices what no glance shows, as a target table that was
/// created again.
const TURN_EVERY: Duration = Duration::from_secs(60);

/// And once so long after a difference: both histories are asked for every five seconds at most, so the turn
/// that follows the difference may not have asked.
const SETTLED_AFTER: Duration = Duration::from_secs(6);

/// What is known of the calm so far.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: Option<Instant>,
    /// What was seen before the last turn. A change that the turn has missed came after it, and is a
    /// difference to it.
    known: Option<Glance>,
    /// Whether a whole turn was made long enough after the last difference.
    is_settled: bool,
}

impl Quiet {
    /// The last turn met something.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// The last turn met nothing: waits until another one may.
    pub(super) async fn rest(&mut self, source: &Source, idle_pause: Duration, cancel: &CancellationToken) {
        let turned_at = Instant::now();
        let since = *self.since.get_or_insert(turned_at);
        loop {
            let pause = pause_after(since.elapsed(), idle_pause);
            if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            // What is wrong with the source the turn says.
            let seen = cancel.run_until_cancelled(source.glance_at_changes()).await;
            let Some(Ok(Some(seen))) = seen else { return self.over() };
            let is_as_it_was = !seen.waits && self.known.as_ref() == Some(&seen);
            let knew_nothing = self.known.replace(seen).is_none();
            if !is_as_it_was {
                self.is_settled = false;
                // The first look after a change is no change.
                if !knew_nothing {
                    self.since = None;
                }
                return;
            }
            if turned_at.elapsed() >= if self.is_settled { TURN_EVERY } else { SETTLED_AFTER } {
                self.is_settled = true;
                return;
            }
        }
    }
}

fn pause_after(calm: Duration, idle_pause: Duration) -> Duration {
    (calm / PART_OF_CALM).clamp(idle_pause, PAUSE_MOST.max(idle_pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_the_calm_and_has_an_end() {
        let idle = Duration::from_millis(200);
        let after = |calm_s: f64| pause_after(Duration::from_secs_f64(calm_s), idle).as_millis();
        assert_eq!(
            [after(0.0), after(4.0), after(10.0), after(30.0), after(1e6)],
            [200, 200, 500, 1_500, 1_500]
        );
        let rare = Duration::from_secs(5);
        assert_eq!(
            pause_after(Duration::from_secs(3_600), rare),
            rare,
            "what is configured is never shortened"
        );
    }
}
