//! Whether the changes of a table are new rows at the moment, so that they go in by the batch.
//!
//! A mark does not say whether its row is new. A batch of inserts is one request for 25 rows where most are,
//! and where most are not it is one request, and the units of 25 refused conditions, for nothing. So one
//! batch is tried; while three in four of its rows are new, all go that way; when fewer are, none does for a
//! while, and for twice as long each time.
//!
//! Relays go by it, and applications of which one call writes many rows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lockstep_core::{Error, Kind};

/// Batches that go in by puts after one that was not worth it, at first and at most.
const PUTS_FIRST: u32 = 40;
const PUTS_MOST: u32 = 640;

/// Guess about one table's changes, and never more: an item that a batch leaves undecided is put under the
/// guard.
#[derive(Debug, Default)]
pub struct Inserts(Mutex<Guess>);

/// A batch that is to be inserted. One that is dropped without an answer says nothing: 1. It is the first,
/// and the others wait for what comes of it. 2. Its caller gives up. 3. The next one is tried.
#[derive(Debug)]
#[must_use]
pub struct Tried<'a>(&'a Inserts);

#[derive(Debug)]
struct Guess {
    state: State,
    /// Length of the next stretch of puts.
    puts: u32,
    /// Whether it was said that the endpoint takes no inserts.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next batch is tried.
    Open,
    /// One is on its way; the others wait for what comes of it, as puts.
    Trying,
    /// Most rows are new.
    New,
    /// Most are not; this number of batches goes by before the next one is tried.
    Known(u32),
}

impl Default for Guess {
    fn default() -> Self {
        Self { state: State::Open, puts: PUTS_FIRST, told: false }
    }
}

impl Inserts {
    /// The next batch, if it is to be inserted; to be told what comes of it. Asked once a batch.
    pub fn try_next(&self) -> Option<Tried<'_>> {
        let mut guess = self.guess();
        guess.state = match guess.state {
            State::New => return Some(Tried(self)),
            State::Trying => return None,
            State::Known(left) if left > 1 => {
                guess.state = State::Known(left - 1);
                return None;
            }
            State::Open | State::Known(_) => State::Trying,
        };
        Some(Tried(self))
    }

    fn guess(&self) -> MutexGuard<'_, Guess> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        let mut guess = self.0.guess();
        if guess.state == State::Trying {
            guess.state = State::Open;
        }
    }
}

impl Tried<'_> {
    /// The batch was answered: `present` of `sent` rows were there before.
    pub fn answered(self, present: usize, sent: usize) {
        let mut guess = self.0.guess();
        if present * 4 <= sent {
            (guess.state, guess.puts) = (State::New, PUTS_FIRST);
        } else {
            guess.give_up();
        }
    }

    /// The batch was not taken as a whole. A store that is away or throttles says nothing of the
    /// rows; one that refuses says that there is no use in it: without the right to insert, or without
    /// PartiQL, puts do.
    pub fn failed(self, error: &Error, table: &str) {
        let mut guess = self.0.guess();
        match error.kind {
            // 1. A slow target takes a batch, and its answer is late. 2. Each of its rows is put once
            // more. 3. All batches on their way do the same, and it is slower still. So one goes first
            // again.
            Kind::Unknown => {
                if matches!(guess.state, State::Trying | State::New) {
                    guess.state = State::Open;
                }
            }
            Kind::Throttled | Kind::Unavailable | Kind::Fenced => {
                if guess.state == State::Trying {
                    guess.state = State::Open;
                }
            }
            _ => {
                guess.give_up();
                if error.kind != Kind::Invalid && !std::mem::replace(&mut guess.told, true) {
                    tracing::info!(
                        table,
                        "new rows are put one by one, as inserting them is refused: {error}"
                    );
                }
            }
        }
    }
}

impl Guess {
    fn give_up(&mut self) {
        // Of several on their way, the first says it, and the others say no more.
        if !matches!(self.state, State::Known(_)) {
            self.state = State::Known(self.puts);
            self.puts = (self.puts * 2).min(PUTS_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of the next `batches` are inserted, each answered with `present` of 25.
    fn inserted(inserts: &Inserts, batches: usize, present: usize) -> usize {
        let tried = (0..batches).filter_map(|_| inserts.try_next());
        tried.map(|tried| tried.answered(present, 25)).count()
    }

    #[test]
    fn new_rows_all_go_in_by_the_batch_and_changed_ones_hardly_ever() {
        let inserts = Inserts::default();
        assert_eq!(inserted(&inserts, 100, 0), 100, "all are new");
        assert_eq!(inserted(&inserts, 100, 6), 100, "three in four are new");
        let tried = inserted(&inserts, 10_000, 25);
        assert!((10..=25).contains(&tried), "none is new, and {tried} batches were tried");
        assert!(inserted(&inserts, 2_000, 0) > 1_000, "it is noticed when they are new again");
    }

    #[test]
    fn while_one_is_tried_the_others_wait_for_what_comes_of_it() {
        let inserts = Inserts::default();
        let tried = inserts.try_next().expect("the first");
        assert!((0..19).all(|_| inserts.try_next().is_none()), "500 keys are read, 25 of them tried");
        tried.answered(25, 25);
        assert!(inserts.try_next().is_none());
    }

    /// Otherwise no batch of that table would be tried any more, for as long as the process lives.
    #[test]
    fn of_one_that_was_given_up_nothing_is_known_and_the_next_is_tried() {
        let inserts = Inserts::default();
        drop(inserts.try_next().expect("the first"));
        inserts.try_next().expect("it is tried again").answered(0, 25);
        drop(inserts.try_next().expect("they are new"));
        assert_eq!(inserted(&inserts, 10, 0), 10, "and are so still");
        let inserts = Inserts::default();
        inserts.try_next().expect("the first").answered(25, 25);
        assert!(inserts.try_next().is_none(), "an answer counts");
    }

    #[test]
    fn an_outage_says_nothing_of_the_rows_and_a_refusal_says_that_it_is_no_use() {
        let inserts = Inserts::default();
        let error = |kind| Error::target(kind, "inserting", "not now");
        for kind in [Kind::Throttled, Kind::Unavailable, Kind::Unknown] {
            inserts.try_next().expect("it is open").failed(&error(kind), "t");
        }
        assert_eq!(inserted(&inserts, 3, 0), 3);
        inserts.try_next().expect("they are new").failed(&error(Kind::Throttled), "t");
        let both = (inserts.try_next().expect("new"), inserts.try_next().expect("all the same"));
        both.0.failed(&error(Kind::Unknown), "t");
        let first = inserts.try_next().expect("one goes first again");
        assert!(inserts.try_next().is_none());
        first.failed(&error(Kind::Unknown), "t");
        drop(both.1);
        for kind in [Kind::Denied, Kind::Misconfigured, Kind::Invalid] {
            let inserts = Inserts::default();
            inserts.try_next().expect("it is open").failed(&error(kind), "t");
            assert!((1..PUTS_FIRST).all(|_| inserts.try_next().is_none()), "{kind:?}");
            assert!(inserts.try_next().is_some(), "{kind:?}: rights may come");
        }
    }
}
