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

/// Event of the source, or, for those of items, of the target.
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
        /// Item of the row; `None` where the target can hold none.
        place: Option<String>,
        /// The version of the mark that went.
        version: i64,
    },
    /// A row was set aside, as none that the target can hold.
    SetAside {
        /// Row of the model.
        key: String,
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
    /// A put has left for the target: if it is applied at all, then after this.
    Leave {
        /// Number of the call that it is of.
        call: u64,
        /// Item of the model.
        place: String,
    },
    /// The target has said that a put was applied.
    Put {
        /// Number of the call that it is of.
        call: u64,
        /// Item of the model.
        place: String,
        /// Version of the state.
        version: i64,
        /// Whether an application has put it as the truth.
        is_truth: bool,
    },
    /// The target has shown an item.
    See {
        /// Item of the model.
        place: String,
        /// Version of the state.
        version: i64,
    },
    /// The target has no such item any more, and knows no version of it.
    Remove {
        /// Item of the model.
        place: String,
    },
    /// Writes of DynamoOnly are about to be stopped: what was put before is to be fed before the way back.
    Pause,
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
    /// The newest state of each item that the target is known to have had.
    delivered: BTreeMap<String, i64>,
    /// The newest delivered state of the item of each put that has left, at that time.
    left: BTreeMap<(u64, String), i64>,
    /// The newest state of each item that the feed has taken.
    fed: BTreeMap<String, i64>,
    /// Items that were put in DynamoOnly and have not been fed.
    unfed: BTreeMap<String, i64>,
    /// Something was put in DynamoOnly since it began.
    is_written: bool,
    /// Those of the last moment at which writes were stopped; `None` where they were not since DynamoOnly
    /// began.
    stopped: Option<BTreeMap<String, i64>>,
    phase: Option<Phase>,
    /// Intents that the transaction at hand settled, and marks as they were before it.
    settled: BTreeMap<String, i64>,
    transaction: Option<u64>,
    /// Rows that were set aside, each with the transaction.
    aside: BTreeSet<(u64, String)>,
}

/// The first event that the model could not have done, if there is one. Events of one transaction stand
/// together, and transactions in the order in which they committed.
pub fn refused(trace: &[Happened]) -> Option<Refused> {
    let with = |wanted: fn(&Event) -> bool| -> BTreeSet<u64> {
        trace.iter().filter(|one| wanted(&one.event)).map(|one| one.transaction).collect()
    };
    let positioned = with(|event| matches!(event, Event::Position | Event::ReadAgain));
    // One statement takes the mark out and sets the row aside.
    let aside = trace.iter().filter_map(|one| match &one.event {
        Event::SetAside { key } => Some((one.transaction, key.clone())),
        _ => None,
    });
    let mut replay = Replay { aside: aside.collect(), ..Replay::default() };
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
            Event::Acknowledge { key, place, version } => {
                self.pending.remove(key);
                let is_aside = self.aside.contains(&(one.transaction, key.clone()));
                match place.as_ref().filter(|_| !is_aside) {
                    Some(place) => self.acknowledge(key, place, *version),
                    None => Ok(()),
                }
            }
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
            Event::Flip(to) => self.flip(*to),
            Event::Leave { call, place } => {
                if let Some(delivered) = self.delivered.get(place) {
                    self.left.insert((*call, place.clone()), *delivered);
                }
                Ok(())
            }
            Event::Put { call, place, version, is_truth } => {
                raise(&mut self.delivered, place, *version);
                self.is_written |= *is_truth;
                // The feed may be quicker than who looks at the answer.
                if *is_truth && self.fed.get(place).is_none_or(|fed| fed < version) {
                    raise(&mut self.unfed, place, *version);
                }
                self.put(self.left.get(&(*call, place.clone())).copied(), place, *version)
            }
            Event::See { place, version } => {
                raise(&mut self.delivered, place, *version);
                Ok(())
            }
            Event::Remove { place } => {
                self.delivered.remove(place);
                self.left.retain(|(_, item), _| item != place);
                Ok(())
            }
            Event::Pause => {
                self.stopped = Some(self.unfed.clone());
                Ok(())
            }
            Event::Feed { place, version } => {
                raise(&mut self.fed, place, *version);
                for waiting in [Some(&mut self.unfed), self.stopped.as_mut()].into_iter().flatten() {
                    waiting.retain(|item, put| item != place || *put > *version);
                }
                Ok(())
            }
            Event::SetAside { .. } | Event::Position | Event::ReadAgain => Ok(()),
        }
    }

    /// A mark goes once its state, or a newer one, is in the target (I1).
    fn acknowledge(&self, key: &str, place: &str, version: i64) -> Result<(), (Mutation, String)> {
        match self.delivered.get(place) {
            Some(delivered) if *delivered >= version => Ok(()),
            delivered => {
                let why = format!("{key} went at {version}, and what was delivered of it is {delivered:?}");
                Err((Mutation::AcknowledgeAnyVersion, why))
            }
        }
    }

    /// No state goes over one that is as new or newer (I2). That was there for sure which was known before
    /// the put left: what two calls do that are under way at once, their answers do not tell.
    fn put(&self, there: Option<i64>, place: &str, version: i64) -> Result<(), (Mutation, String)> {
        match there {
            Some(there) if there >= version => {
                let why = format!("{place} was put at {version} over {there}");
                Err((Mutation::GuardLetsOlderThrough, why))
            }
            _ => Ok(()),
        }
    }

    fn flip(&mut self, to: Phase) -> Result<(), (Mutation, String)> {
        let from = self.phase.replace(to);
        match (from, to) {
            (_, Phase::DynamoOnly) => {
                // What arrives late from an earlier DynamoOnly is marked, and no truth any more.
                (self.stopped, self.unfed, self.is_written) = (None, BTreeMap::new(), false);
                self.there()
            }
            (Some(Phase::DynamoOnly), _) => self.back(),
            _ => Ok(()),
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
        let Some(stopped) = &self.stopped else {
            // A step that was broken off before it let writes go on is undone, and there is nothing to stop.
            return match self.is_written {
                true => Err((Mutation::FlipBackUnpaused, "writes were not stopped".to_owned())),
                false => Ok(()),
            };
        };
        match stopped.first_key_value() {
            Some((place, version)) => {
                Err((Mutation::FlipBackUndrained, format!("{place} at {version} was not fed")))
            }
            None => Ok(()),
        }
    }
}

/// Notes a version of an item, unless a higher one is known.
fn raise(known: &mut BTreeMap<String, i64>, place: &str, version: i64) {
    let newest = known.entry(place.to_owned()).or_insert(version);
    *newest = (*newest).max(version);
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
        Event::Acknowledge { key: "a".into(), place: Some("i".into()), version }
    }

    fn left(call: u64) -> Event {
        Event::Leave { call, place: "i".into() }
    }

    fn delivered(call: u64, version: i64) -> Event {
        Event::Put { call, place: "i".into(), version, is_truth: false }
    }

    fn intend() -> Event {
        Event::Intend { key: "a".into(), repair: 6 }
    }

    fn settle() -> Event {
        Event::Settle { key: "a".into(), repair: 6 }
    }

    fn put(version: i64) -> Event {
        Event::Put { call: 0, place: "i".into(), version, is_truth: true }
    }

    fn feed(version: i64) -> Event {
        Event::Feed { place: "i".into(), version }
    }

    #[test]
    fn a_run_of_the_protocol_there_and_back_is_accepted() {
        let there = [
            (1, mark(5)),
            (0, delivered(1, 5)),
            (2, gone(5)),
            (3, intend()),
            (4, settle()),
            (4, mark(6)),
            (0, delivered(2, 6)),
            (5, gone(6)),
        ];
        let back = [
            (6, Event::Flip(Phase::DynamoOnly)),
            (0, put(20)),
            (0, put(21)),
            (10, Event::Pause),
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
        let (there, back) = ((1, Event::Flip(Phase::DynamoOnly)), (4, Event::Flip(Phase::HybridRead)));
        let (pause, fed) = ((3, Event::Pause), |version| [(2, feed(version)), (2, Event::Position)]);
        let [row, position] = fed(20);
        let older = [there.clone(), (0, put(21)), row, position, pause.clone(), back.clone()];
        assert_eq!(rule(&older), Some(Mutation::FlipBackUndrained));
        assert_eq!(
            rule(&[there.clone(), (0, put(21)), pause.clone(), back.clone()]),
            Some(Mutation::FlipBackUndrained)
        );
        let [row, position] = fed(21);
        // Behind the pause, and before its answer was looked at.
        let whole = [there.clone(), pause.clone(), row, position, (0, put(21)), back.clone()];
        assert_eq!(rule(&whole), None);
        // What lands later is not acknowledged, and the feed marks it.
        assert_eq!(rule(&[there.clone(), pause, (0, put(21)), back.clone()]), None);
        let unpaused = [there.clone(), (0, put(21)), back.clone()];
        assert_eq!(rule(&unpaused), Some(Mutation::FlipBackUnpaused));
        assert_eq!(rule(&[there, back]), None, "it was undone before a write could be");
    }

    #[test]
    fn m2_a_mark_that_was_raised_meanwhile_is_not_taken_out() {
        let raised = [(1, mark(5)), (0, delivered(1, 5)), (2, mark(7)), (3, gone(7))];
        assert_eq!(rule(&raised), Some(Mutation::AcknowledgeAnyVersion));
        assert_eq!(rule(&[(1, mark(5)), (2, gone(5))]), Some(Mutation::AcknowledgeAnyVersion));
        assert_eq!(rule(&[(1, mark(5)), (0, delivered(1, 9)), (2, gone(5))]), None, "a newer state is there");
        let aside = (2, Event::SetAside { key: "a".into() });
        assert_eq!(rule(&[(1, mark(5)), aside.clone(), (2, gone(5))]), None);
        assert_eq!(rule(&[(1, mark(5)), (2, gone(5)), aside]), None, "one statement does both");
        let shown = (0, Event::See { place: "i".into(), version: 5 });
        assert_eq!(rule(&[(1, mark(5)), shown, (2, gone(5))]), None);
    }

    #[test]
    fn m1_a_put_over_a_state_that_is_as_new_is_refused_unless_they_met() {
        let older = Some(Mutation::GuardLetsOlderThrough);
        for version in [6, 7] {
            let late = [(0, left(1)), (0, delivered(1, 7)), (0, left(2)), (0, delivered(2, version))];
            assert_eq!(rule(&late), older);
        }
        let met = [(0, left(1)), (0, left(2)), (0, delivered(2, 7)), (0, delivered(1, 6))];
        assert_eq!(rule(&met), None);
        let newer = [(0, left(1)), (0, delivered(1, 7)), (0, left(2)), (0, delivered(2, 8))];
        assert_eq!(rule(&newer), None);
        let removed = (0, Event::Remove { place: "i".into() });
        let again = [(0, left(1)), (0, delivered(1, 7)), (0, left(2)), removed, (0, delivered(2, 0))];
        assert_eq!(rule(&again), None);
    }
}
