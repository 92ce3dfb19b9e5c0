//! Behaviour of a relay while nothing changes: it looks by one statement, more and more rarely.
//!
//! A whole turn asks each table a dozen things, which protect what is about to be delivered: the contract,
//! the phase, the shape, both histories. While there is nothing to deliver they protect nothing, and a source
//! that no application writes answered a hundred statements a second. So a turn that met nothing is followed
//! by glances, and the first difference by a whole turn, before anything is delivered.
//!
//! What PostgreSQL cannot show by a glance, that a target table has lost history, is looked for by the mark
//! in each table, as often as before: readers of HybridRead are given what is there.

use std::time::{Duration, Instant};

use lockstep_postgres::Glance;
use tokio_util::sync::CancellationToken;

use crate::continuity::MarksLooked;
use crate::options::MigrationContext;

use super::share::Shares;

/// Nothing is looked at more rarely than this, so the first change after a long calm waits for so long at
/// most.
const PAUSE_MOST: Duration = Duration::from_millis(1_500);
/// The pause is this part of the calm before it: who writes once a second does not wait longer than before.
const PART_OF_CALM: u32 = 20;
/// A whole turn is made so often all the same: it notices what no glance shows, as a target table that was
/// created again with the mark of the one before.
const TURN_EVERY: Duration = Duration::from_secs(60);

/// And once so long after a difference: both histories are asked for every five seconds at most, so the turn
/// that follows the difference may not have asked.
const AT_REST_AFTER: Duration = Duration::from_secs(6);

/// Record of the calm so far.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: Option<Instant>,
    /// Glance before the last turn. A change that the turn has missed came after it, and is a difference to
    /// it.
    known: Option<Glance>,
    /// Whether a whole turn was made long enough after the last difference.
    is_at_rest: bool,
    marks: MarksLooked,
}

impl Quiet {
    /// The last turn met something.
    pub(super) fn over(&mut self) {
        (self.since, self.known, self.is_at_rest) = (None, None, false);
    }

    /// The last turn met nothing: waits until another one may.
    pub(super) async fn rest(
        &mut self,
        migration: &MigrationContext,
        shares: &Shares,
        cancel: &CancellationToken,
    ) {
        let turned_at = Instant::now();
        let since = *self.since.get_or_insert(turned_at);
        loop {
            let pause = pause_after(since.elapsed(), migration.options.relay.idle_pause);
            if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            // The turn reports what is wrong with the source.
            let seen = cancel.run_until_cancelled(shares.glance()).await;
            let Some(Ok(Some(seen))) = seen else { return self.over() };
            if !self.is_as_it_was(seen) {
                return;
            }
            let is_kept = cancel.run_until_cancelled(self.marks.are_kept(migration)).await;
            if is_kept == Some(false) {
                // The turn must ask, however lately it did.
                migration.watch.forget();
                return self.over();
            }
            if turned_at.elapsed() >= if self.is_at_rest { TURN_EVERY } else { AT_REST_AFTER } {
                self.is_at_rest = true;
                return;
            }
        }
    }

    /// Takes a glance; says whether it shows nothing that a turn would have to look at.
    fn is_as_it_was(&mut self, seen: Glance) -> bool {
        let is_as_it_was = !seen.waits && self.known.as_ref() == Some(&seen);
        let knew_nothing = self.known.replace(seen).is_none();
        if !is_as_it_was {
            self.is_at_rest = false;
            // The first look after a change is no change.
            if !knew_nothing {
                self.since = None;
            }
        }
        is_as_it_was
    }
}

fn pause_after(calm: Duration, idle_pause: Duration) -> Duration {
    (calm / PART_OF_CALM).clamp(idle_pause, PAUSE_MOST.max(idle_pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glance(waits: bool, mark: &str) -> Glance {
        Glance { waits, mark: mark.to_owned() }
    }

    #[test]
    fn a_glance_is_followed_by_a_turn_unless_it_is_the_one_before_and_nothing_waits() {
        let mut quiet = Quiet::default();
        let seen = [
            (glance(false, "1"), false),
            (glance(false, "1"), true),
            (glance(true, "1"), false),
            // It waited when it was seen last.
            (glance(false, "1"), false),
            (glance(false, "1"), true),
            (glance(false, "2"), false),
            (glance(false, "2"), true),
        ];
        for (n, (glance, rests)) in seen.into_iter().enumerate() {
            quiet.is_at_rest = true;
            assert_eq!(quiet.is_as_it_was(glance), rests, "glance {n}");
            assert_eq!(quiet.is_at_rest, rests, "after a difference both histories are asked for once more");
        }
        quiet.over();
        assert!(!quiet.is_as_it_was(glance(false, "2")), "a turn that met something is followed by a turn");
    }

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
