//! Trace of what a run of the code did, in the order in which the source saw it, held against the rules of
//! the model.
//!
//! The checker visits every state of the model; it says nothing of the code. A trace does: who records one
//! names each change of the source's tables as an event, and [`refused`] names the rule, by the mutation that
//! leaves it out, that no run of the unmutated model breaks. Keys and versions are the code's, of any number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::mutation::Mutation;
use crate::state::Phase;

/// Event of the source, or, for [`Event::Put`], of the target while it was the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key became pending, or its mark was raised.
    Mark {
        /// Row of the model.
        key: String,
        /// The version of the mark.
        version: i64,
    },
    /// A mark went.
    Acknowledge {
        /// Row of the model.
        key: String,
        /// The version of the mark that went.
        version: i64,
    },
    /// An intent of a strict write.
    Intend {
        /// Row of the model.
        key: String,
        /// The version that the write reserved for a repair.
        repair: i64,
    },
    /// An intent went: its transaction has ended, one way or the other.
    Settle {
        /// Row of the model.
        key: String,
        /// The version that the write had reserved.
        repair: i64,
    },
    /// The phase changed.
    Flip(Phase),
    /// An acknowledged write of DynamoOnly.
    Put {
        /// Item of the model.
        place: String,
        /// Version of the mark.
        version: i64,
    },
    /// The reverse feed took a record, or read an item again.
    Feed {
        /// Item of the model.
        place: String,
        /// Version of the mark.
        version: i64,
    },
    /// The reverse feed saved a position.
    Position,
    /// A note to read an item again went.
    ReadAgain,
}

/// An event, and the source's transaction that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// The transaction's number.
    pub transaction: u64,
    /// Event of the entry.
    pub event: Event,
}

/// Reason why a trace is none of the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the event, from 0.
    pub at: usize,
    /// The mutation that would allow it.
    pub rule: Mutation,
    /// Description of what is wrong with it.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}: {} (only with {:?})", self.at, self.why, self.rule)
    }
}

/// Knowledge of the source after a part of a trace.
#[derive(Default)]
struct Replay {
    pending: BTreeMap<String, i64>,
    intents: BTreeSet<(String, i64)>,
    /// Items that were put in DynamoOnly and have not been fed.
    unfed: BTreeMap<String, i64>,
    /// Intents that the transaction at hand settled, and marks as they were before it.
    settled: BTreeMap<String, i64>,
    transaction: Option<u64>,
}

/// The first event that the model could not have done, if there is one. Events of one transaction stand
/// together, and transactions in the order in which they committed.
pub fn refused(trace: &[Happened]) -> Option<Refused> {
    let with = |wanted: fn(&Event) -> bool| -> BTreeSet<u64> {
        trace.iter().filter(|one| wanted(&one.event)).map(|one| one.transaction).collect()
    };
    let positioned = with(|event| matches!(event, Event::Position | Event::ReadAgain));
    let mut replay = Replay::default();
    trace.iter().enumerate().find_map(|(at, one)| {
        if matches!(one.event, Event::Feed { .. }) && !positioned.contains(&one.transaction) {
            let why = "rows of the feed were committed without their position".to_owned();
            return Some(Refused { at, rule: Mutation::PositionBeforeRows, why });
        }
        replay.apply(one).err().map(|(rule, why)| Refused { at, rule, why })
    })
}

impl Replay {
    fn apply(&mut self, one: &Happened) -> Result<(), (Mutation, String)> {
        if self.transaction.replace(one.transaction) != Some(one.transaction) {
            self.settled.clear();
        }
        match &one.event {
            Event::Mark { key, version } => self.mark(key, *version),
            Event::Acknowledge { key, version } => match self.pending.remove(key) {
                Some(now) if now > *version => Err((
                    Mutation::AcknowledgeAnyVersion,
                    format!("{key} was pending at {now}, not at {version}"),
                )),
                _ => Ok(()),
            },
            Event::Intend { key, repair } => {
                self.intents.insert((key.clone(), *repair));
                Ok(())
            }
            Event::Settle { key, repair } => {
                self.intents.remove(&(key.clone(), *repair));
                let highest = self.settled.entry(key.clone()).or_insert(*repair);
                *highest = (*highest).max(*repair);
                Ok(())
            }
            Event::Flip(Phase::DynamoOnly) => self.there(),
            Event::Flip(_) => self.back(),
            Event::Put { place, version } => {
                let newest = self.unfed.entry(place.clone()).or_insert(*version);
                *newest = (*newest).max(*version);
                Ok(())
            }
            Event::Feed { place, version } => {
                if self.unfed.get(place).is_some_and(|put| put <= version) {
                    self.unfed.remove(place);
                }
                Ok(())
            }
            Event::Position | Event::ReadAgain => Ok(()),
        }
    }

    /// A repair marks at the version that its write reserved, or leaves a newer mark as it is (H14).
    fn mark(&mut self, key: &str, version: i64) -> Result<(), (Mutation, String)> {
        let before = self.pending.insert(key.to_owned(), version);
        match (self.settled.get(key), before) {
            (Some(repair), _) if version != *repair && Some(version) != before => {
                let why = format!("{key} was settled at {version}, and {repair} was reserved for that");
                Err((Mutation::SweepAtFreshVersion, why))
            }
            _ => Ok(()),
        }
    }

    fn there(&self) -> Result<(), (Mutation, String)> {
        if let Some((key, _)) = self.pending.first_key_value() {
            return Err((Mutation::FlipOverPending, format!("{key} is pending")));
        }
        match self.intents.first() {
            Some((key, _)) => Err((Mutation::FlipOverIntents, format!("{key} has an open intent"))),
            None => Ok(()),
        }
    }

    fn back(&self) -> Result<(), (Mutation, String)> {
        match self.unfed.first_key_value() {
            Some((place, version)) => {
                Err((Mutation::FlipBackUndrained, format!("{place} at {version} was not fed")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(events: &[(u64, Event)]) -> Vec<Happened> {
        events
            .iter()
            .map(|(transaction, event)| Happened { transaction: *transaction, event: event.clone() })
            .collect()
    }

    fn rule(events: &[(u64, Event)]) -> Option<Mutation> {
        refused(&trace(events)).map(|refused| refused.rule)
    }

    fn mark(version: i64) -> Event {
        Event::Mark { key: "a".into(), version }
    }

    fn gone(version: i64) -> Event {
        Event::Acknowledge { key: "a".into(), version }
    }

    fn intend() -> Event {
        Event::Intend { key: "a".into(), repair: 6 }
    }

    fn settle() -> Event {
        Event::Settle { key: "a".into(), repair: 6 }
    }

    fn put(version: i64) -> Event {
        Event::Put { place: "i".into(), version }
    }

    fn feed(version: i64) -> Event {
        Event::Feed { place: "i".into(), version }
    }

    #[test]
    fn a_run_of_the_protocol_there_and_back_is_accepted() {
        let there = [(1, mark(5)), (2, gone(5)), (3, intend()), (4, settle()), (4, mark(6)), (5, gone(6))];
        let back = [
            (6, Event::Flip(Phase::DynamoOnly)),
            (0, put(20)),
            (0, put(21)),
            (7, feed(21)),
            (7, Event::Position),
            (8, feed(21)),
            (8, Event::ReadAgain),
            (9, Event::Flip(Phase::HybridRead)),
        ];
        assert_eq!(refused(&trace(&[there.to_vec(), back.to_vec()].concat())), None);
    }

    #[test]
    fn m33_a_flip_to_dynamo_only_over_an_open_intent_is_refused() {
        let flip = Event::Flip(Phase::DynamoOnly);
        assert_eq!(rule(&[(1, intend()), (2, flip.clone())]), Some(Mutation::FlipOverIntents));
        assert_eq!(rule(&[(1, mark(5)), (2, flip)]), Some(Mutation::FlipOverPending));
    }

    #[test]
    fn m23_a_repair_at_a_fresh_version_is_refused_and_a_newer_mark_stays() {
        assert_eq!(rule(&[(1, intend()), (2, settle()), (2, mark(9))]), Some(Mutation::SweepAtFreshVersion));
        assert_eq!(rule(&[(1, intend()), (1, mark(9)), (2, settle()), (2, mark(9))]), None);
    }

    #[test]
    fn m11_rows_of_the_feed_without_their_position_are_refused() {
        assert_eq!(rule(&[(1, Event::Position), (2, feed(20))]), Some(Mutation::PositionBeforeRows));
    }

    #[test]
    fn m25_a_flip_back_over_a_write_that_was_not_fed_is_refused() {
        let back = (3, Event::Flip(Phase::HybridRead));
        let older = [(0, put(21)), (2, feed(20)), (2, Event::Position), back.clone()];
        assert_eq!(rule(&older), Some(Mutation::FlipBackUndrained));
        assert_eq!(rule(&[(0, put(21)), back]), Some(Mutation::FlipBackUndrained));
    }

    #[test]
    fn m2_a_mark_that_was_raised_meanwhile_is_not_taken_out() {
        assert_eq!(rule(&[(1, mark(5)), (2, mark(7)), (3, gone(5))]), Some(Mutation::AcknowledgeAnyVersion));
    }
}
