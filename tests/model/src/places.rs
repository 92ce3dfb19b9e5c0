//! Places of rows in the target, and which of them the source takes: each row at a place of its own, but in
//! the scopes that are about the opposite.

use crate::action::Action;
use crate::invariants::Claim;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::scope::Odd;
use crate::state::*;
use crate::writers::value;

impl Model {
    fn shares(&self) -> bool {
        self.scope.odd == Odd::SharedPlace
    }

    /// Returns the place in the target of what is under a key.
    pub(crate) fn place(&self, key: Key) -> usize {
        if self.shares() { 0 } else { key }
    }

    /// Every place.
    pub(crate) fn places(&self) -> std::ops::Range<usize> {
        0..if self.shares() { 1 } else { KEYS }
    }

    fn keys_of(&self, place: usize) -> impl Iterator<Item = Key> {
        (0..KEYS).filter(move |key| self.place(*key) == place)
    }

    /// Returns what the source wants to have at a place. Of two keys that share it, the row is under one at
    /// most.
    pub(crate) fn wanted(&self, s: &State, place: usize) -> Value {
        self.keys_of(place).map(|key| s.source.rows[key]).find(|row| *row != GONE).unwrap_or(GONE)
    }

    /// Whether both stores say the same of a place.
    pub(crate) fn agrees(&self, s: &State, place: usize) -> bool {
        self.wanted(s, place) == s.target.items[place]
    }

    /// Whether a process remembers that the target may be behind, or ahead, at a place.
    pub(crate) fn is_known(&self, s: &State, place: usize) -> bool {
        self.keys_of(place).any(|key| s.is_known(key))
    }

    /// Returns what a relay delivers for a mark: the row of its key, or, where the row has left the key but
    /// not the place, the row.
    pub(crate) fn due(&self, s: &State, key: Key) -> Value {
        let is_there = !self.is(Mutation::TombstoneOfOldKey) && self.is_elsewhere(s, key);
        if is_there { self.wanted(s, self.place(key)) } else { s.source.rows[key] }
    }

    /// Keys that a relay takes for delivered because their row has left them, as bits: mutation only.
    pub(crate) fn dropped(&self, s: &State) -> u8 {
        let is_dropped = |key: &Key| self.is(Mutation::OldKeyDropped) && self.is_elsewhere(s, *key);
        (0..KEYS).filter(is_dropped).fold(0, |mask, key| mask | bit(key))
    }

    /// Whether the relay has been refused where two keys have one place, and looks before it judges.
    pub(crate) fn looks_again(&self, s: &State) -> bool {
        let is_refused = s.relay.refused.iter().any(|version| *version != NONE);
        self.shares() && is_refused && !self.is(Mutation::JudgedByItsOwnMark)
    }

    /// Looks again, in one snapshot: keeps what is due by now where the mark stands as it was read, and
    /// nothing else waits of its place. The rest is left to the next batch.
    pub(crate) fn looked_again(&self, s: &State) -> State {
        let r = &s.relay;
        s.with(|x| {
            x.relay.at = RelayAt::Looked;
            for key in (0..KEYS).filter(|key| r.refused[*key] != NONE) {
                let stands = s.source.pending[key] == r.versions[key];
                if stands && (!self.waits(s, key) || self.is(Mutation::OtherKeysAskedLater)) {
                    x.relay.rows[key] = self.due(s, key);
                } else {
                    x.relay.keys &= !bit(key);
                    x.relay.delivered &= !bit(key);
                }
            }
        })
    }

    /// Whether something of a key's place waits that may have put what refused it: an intent, or another mark
    /// at that version or a higher one.
    fn waits(&self, s: &State, key: Key) -> bool {
        if self.is(Mutation::PresentKeyAskedAlone) && s.source.rows[key] != GONE {
            return is_open(s, key);
        }
        let mut keys = self.keys_of(self.place(key));
        keys.any(|other| is_open(s, other) || other != key && s.source.pending[other] >= s.relay.refused[key])
    }

    /// A put of the relay was refused by another state: by a newer mark's, or history was lost, which it
    /// never is here. Where two keys have one place it was looked at again: what stood there before the look
    /// and after it was delivered by no mark of this history, unless it is what was due then.
    pub(crate) fn judge(&self, s: &State, x: &mut State, key: Key) {
        let (r, place) = (&s.relay, self.place(key));
        if r.at == RelayAt::Looked {
            if s.target.items[place] == r.rows[key] {
                return self.take_out(x, key, r.versions[key]);
            }
            let later = self.is(Mutation::OtherKeysAskedLater) && self.waits(s, key);
            if later || s.target.versions[place] != r.refused[key] {
                return;
            }
        }
        if s.source.pending[key] == r.versions[key] && !is_open(s, key) {
            x.broken = Some(Claim::NoFalseAlarm);
        }
    }

    /// The keys that a write puts, as bits: not one that its row leaves for another key of the same place.
    pub(crate) fn puts(&self, writer: usize, op: Op) -> u8 {
        let is_live = |key: Key| value(writer, op, key, true) != GONE;
        let is_left = |key: Key| {
            let others = op.keys().iter().filter(|other| **other != key);
            !is_live(key)
                && others.into_iter().any(|other| self.place(*other) == self.place(key) && is_live(*other))
        };
        if self.is(Mutation::TombstoneOfOldKey) {
            return op.mask();
        }
        op.keys().iter().filter(|key| !is_left(**key)).fold(0, |mask, key| mask | bit(*key))
    }

    /// Returns what a statement on a key locks, as bits: the row, under whichever key it is, or the value
    /// that both rows want.
    pub(crate) fn row_of(&self, key: Key) -> u8 {
        let of_one = |other: &Key| self.place(*other) == self.place(key) || self.scope.odd == Odd::Blocks;
        (0..KEYS).filter(of_one).fold(0, |mask, key| mask | bit(key))
    }

    /// Whether the row that a statement looks for under a key is under another one.
    pub(crate) fn is_elsewhere(&self, s: &State, key: Key) -> bool {
        s.source.rows[key] == GONE && self.wanted(s, self.place(key)) != GONE
    }

    /// Whether PostgreSQL refuses a row for the other one.
    pub(crate) fn is_refused(&self, s: &State, key: Key, row: Value) -> bool {
        self.scope.odd == Odd::Blocks && row != GONE && s.source.rows[1 - key] != GONE
    }

    /// A repair: a fresh version, made while no writer is under way.
    pub(crate) fn marked_again(&self, s: &State, steps: &mut Steps) {
        let alone = self.may_close(s) || self.is(Mutation::RepairBesideWriters);
        if !self.shares() || s.left.steps == 0 || !alone {
            return;
        }
        for key in (0..KEYS).filter(|key| !s.mark_is_locked(*key, WRITERS)) {
            let next = s.with(|x| {
                x.left.steps -= 1;
                x.source.pending[key] = x.next_version();
            });
            steps.push((Action::MarkAgain(key), next));
        }
    }
}

/// Whether a strict write has an intent of a key.
fn is_open(s: &State, key: Key) -> bool {
    s.writers.iter().any(|w| w.intents & bit(key) != 0)
}
