//! Behaviour of both stores by themselves: versions, locks, the barrier; conditions and the stream.

use crate::action::Action;
use crate::invariants::Claim;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::state::*;

impl State {
    /// `nextval` of the version sequence.
    pub fn next_version(&mut self) -> Version {
        self.source.sequence += 1;
        assert!(
            !self.source.sequence.is_multiple_of(EPOCH),
            "a scope with more versions in one epoch than the model counts"
        );
        self.source.sequence
    }

    /// Whether another writer's transaction has the row.
    pub fn row_is_locked(&self, key: Key, but: usize) -> bool {
        self.writers.iter().enumerate().any(|(n, w)| n != but && w.in_transaction() && w.rows & bit(key) != 0)
    }

    /// Whether another writer's transaction has marked the row, and so has its mark locked.
    pub fn mark_is_locked(&self, key: Key, but: usize) -> bool {
        self.writers
            .iter()
            .enumerate()
            .any(|(n, w)| n != but && w.in_transaction() && w.marks & bit(key) != 0)
    }

    /// Returns what the reverse feed has not read of the stream.
    pub fn unread(&self) -> &[(u8, Version, Value)] {
        &self.target.stream[..usize::from(self.target.stream_len)]
    }

    /// Takes the oldest record off the stream.
    pub fn pop_record(&mut self) -> (u8, Version, Value) {
        let first = self.target.stream[0];
        self.target.stream.copy_within(1.., 0);
        self.target.stream_len -= 1;
        self.target.stream[STREAM - 1] = (0, NONE, GONE);
        first
    }

    /// A state of a row is committed where the truth is.
    pub fn takes_effect(&mut self, writer: usize, key: Key, value: Value) {
        self.truth.rows[key] = value;
        if key == 0 {
            self.truth.maybe = None;
        }
        self.writers[writer].took_effect = true;
    }
}

impl Model {
    /// Whether a flip holds the barrier.
    pub fn barrier_is_closed(&self, s: &State) -> bool {
        !self.is(Mutation::NoBarrier)
            && (matches!(s.coordinator.at, Stage::Closed | Stage::Flipping) || s.coordinator.commit_in_flight)
    }

    /// Whether no write transaction holds the barrier.
    pub fn no_writer_holds_the_barrier(&self, s: &State) -> bool {
        self.is(Mutation::NoBarrier) || !s.writers.iter().any(Writer::in_transaction)
    }

    /// A request arrives at the target; says whether its condition held.
    pub fn arrive(&self, s: &mut State, key: Key, guard: Guard, version: Version, value: Value) -> bool {
        let place = self.place(key);
        let there = s.target.versions[place];
        let holds = match guard {
            Guard::Older => there < version || self.is(Mutation::GuardLetsOlderThrough),
            Guard::Absent => there == NONE || self.is(Mutation::HistoryOverwrites),
            Guard::Exactly(expected) => there == expected,
        };
        if !holds {
            // Refused as delivered: then it must be the same state, or a newer one.
            // Two keys of one place deliver what is there by then, also under one version twice.
            let is_one = self.place(key) == key && self.places().len() == KEYS;
            if is_one && guard == Guard::Older && there == version && s.target.items[place] != value {
                s.broken = Some(Claim::Ordered);
            }
            return false;
        }
        if version < there {
            s.broken = Some(Claim::Ordered);
        }
        (s.target.versions[place], s.target.items[place]) = (version, value);
        if value == GONE && self.is(Mutation::NoTombstone) {
            s.target.versions[place] = NONE;
        }
        // The feed skips what came from the source by its epoch; left out here, it needs no place in the
        // model's stream.
        let of_feed = s.feed.epochs >> epoch_of(version) & 1 == 1 || self.is(Mutation::FeedTakesAnyEpoch);
        let ended = self.is(Mutation::FeedEndsAtFlipBack) && !s.target_is_truth();
        if s.feed.on && of_feed && !ended {
            let len = usize::from(s.target.stream_len);
            assert!(len < STREAM, "a scope with more records than the model's stream holds");
            s.target.stream[len] = (key as u8, version, value);
            s.target.stream_len += 1;
        }
        true
    }

    /// The one request that was given up on may arrive at any time.
    pub(crate) fn late(&self, s: &State, steps: &mut Steps) {
        let Some(late) = s.late else { return };
        let next = s.with(|n| {
            n.late = None;
            let key = usize::from(late.key);
            let landed = self.arrive(n, key, late.guard, late.version, late.value);
            // A write of unknown outcome turns out to have happened, if the target is the truth, or is to be
            // before it is repaired.
            if let (true, Guard::Exactly(_), Some(writer)) = (landed, late.guard, late.writer) {
                n.truth.maybe = Some(late.value);
                n.writers[usize::from(writer)].took_effect |= s.target_is_truth();
            }
        });
        steps.push((Action::LateArrives, next));
    }
}
