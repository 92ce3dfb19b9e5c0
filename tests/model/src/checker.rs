//! An explicit-state checker: breadth first, so the first counterexample is a shortest one.
//!
//! Every state is kept whole and compared whole: nothing rests on hashes being different.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use crate::action::Action;
use crate::invariants::{Claim, converged};
use crate::model::Model;
use crate::state::State;

/// A model with more states than this is no small scope.
const STATES_MAX: usize = 12_000_000;
const NOWHERE: u32 = u32::MAX;

/// Result of a check.
#[derive(Debug)]
pub struct Report {
    /// States that can be reached, or were until the counterexample.
    pub states: usize,
    /// Actions taken from them.
    pub actions: usize,
    /// Length of the longest shortest way to a state.
    pub depth: usize,
    /// Counterexample, if it does not hold.
    pub counterexample: Option<Counterexample>,
}

/// A way from a start to what must not be.
#[derive(Debug)]
pub struct Counterexample {
    /// Claim that is broken at its end.
    pub claim: Claim,
    /// State in which it starts.
    pub start: State,
    /// Actions that happen, and the state after each.
    pub steps: Vec<(Action, State)>,
}

/// Every state that was met, by number.
#[derive(Default)]
struct Seen {
    states: Vec<State>,
    /// State from which each was reached, and by which of its steps.
    from: Vec<(u32, u8)>,
    /// The state that follows when nothing but healing goes on.
    heals_to: Vec<u32>,
    /// Open addressing: the hash of a state in the high half, its number in the low one.
    places: Vec<u64>,
}

const FREE: u64 = u64::MAX;

impl Seen {
    /// The number of a state, which is a new one if it was not met before.
    fn meet(&mut self, state: &State, from: (u32, u8)) -> u32 {
        if self.states.len() * 2 >= self.places.len() {
            self.grow();
        }
        let (hash, mask) = (hash(state), self.places.len() - 1);
        let mut place = hash as usize & mask;
        while self.places[place] != FREE {
            let number = self.places[place] as u32;
            if (self.places[place] >> 32) as u32 == hash && self.states[number as usize] == *state {
                return number;
            }
            place = (place + 1) & mask;
        }
        let number = u32::try_from(self.states.len()).expect("bounded by STATES_MAX");
        self.places[place] = u64::from(hash) << 32 | u64::from(number);
        self.states.push(*state);
        self.from.push(from);
        self.heals_to.push(NOWHERE);
        number
    }

    fn grow(&mut self) {
        let size = (self.places.len() * 2).max(1 << 16);
        let old = std::mem::replace(&mut self.places, vec![FREE; size]);
        for entry in old.into_iter().filter(|entry| *entry != FREE) {
            let mut place = (entry >> 32) as usize & (size - 1);
            while self.places[place] != FREE {
                place = (place + 1) & (size - 1);
            }
            self.places[place] = entry;
        }
    }

    fn way_to(&self, model: &Model, last: u32, claim: Claim) -> Counterexample {
        let (mut numbers, mut at, mut steps) = (vec![last], last, Vec::new());
        while self.from[at as usize].0 != NOWHERE {
            at = self.from[at as usize].0;
            numbers.push(at);
        }
        numbers.reverse();
        let start = self.states[numbers[0] as usize];
        let mut next = Vec::new();
        for pair in numbers.windows(2) {
            model.steps(&self.states[pair[0] as usize], &mut next);
            steps.push(next[usize::from(self.from[pair[1] as usize].1)]);
        }
        Counterexample { claim, start, steps }
    }
}

/// Visits every state of `model`, until one breaks an invariant; then asks of each whether it heals.
///
/// # Panics
/// When there are more states than a small scope has.
pub fn check(model: &Model) -> Report {
    let mut seen = Seen::default();
    for start in model.starts() {
        seen.meet(&start, (NOWHERE, 0));
    }
    let (mut at, mut actions, mut depth) = (0, 0, 0);
    let mut level_ends = seen.states.len();
    let mut next = Vec::new();
    let mut counterexample = None;
    while at < seen.states.len() {
        if at == level_ends {
            (depth, level_ends) = (depth + 1, seen.states.len());
        }
        let state = seen.states[at];
        if let Some(claim) = model.broken(&state) {
            counterexample = Some(seen.way_to(model, at as u32, claim));
            break;
        }
        model.steps(&state, &mut next);
        actions += next.len();
        for (n, (action, state)) in next.iter().enumerate() {
            let number = seen.meet(state, (at as u32, n as u8));
            if action.heals() && seen.heals_to[at] == NOWHERE {
                seen.heals_to[at] = number;
            }
        }
        assert!(seen.states.len() < STATES_MAX, "more than {STATES_MAX} states: {}", model.scope.name);
        at += 1;
    }
    if counterexample.is_none() {
        counterexample = unhealed(model, &seen).map(|number| seen.way_to(model, number, Claim::Convergence));
    }
    Report { states: seen.states.len(), actions, depth, counterexample }
}

/// The first state from which healing does not end well (I10).
///
/// Healing is deterministic: in each state the first of the steps that heal. So the states form a forest with
/// one way out of each; whether a state heals is whether the end of its way is converged, and a way that
/// comes back to itself never heals. Requests that are still late are not waited for; the state after each
/// arrival was visited as well.
fn unhealed(model: &Model, seen: &Seen) -> Option<u32> {
    const UNDER_WAY: u8 = 1;
    const HEALED: u8 = 2;
    let mut mark = vec![0u8; seen.states.len()];
    let mut way = Vec::new();
    for number in 0..seen.states.len() {
        let mut at = number;
        while mark[at] == 0 {
            mark[at] = UNDER_WAY;
            way.push(at);
            match seen.heals_to[at] {
                NOWHERE if converged(model, &seen.states[at]) => mark[at] = HEALED,
                NOWHERE => return Some(at as u32),
                next => at = next as usize,
            }
        }
        if mark[at] == UNDER_WAY {
            return Some(at as u32);
        }
        for at in way.drain(..) {
            mark[at] = HEALED;
        }
    }
    None
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} is broken after {} actions:", self.claim, self.steps.len())?;
        writeln!(f, "    {}", self.start)?;
        for (n, (action, state)) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3} {action}\n    {state}", n + 1)?;
        }
        Ok(())
    }
}

fn hash(state: &State) -> u32 {
    let hash = BuildHasherDefault::<Mixer>::default().hash_one(state);
    (hash >> 32) as u32
}

/// A quick hash of many small fields; equality decides, so it need not be a good one.
#[derive(Default)]
struct Mixer {
    mixed: u64,
    word: u64,
    bytes: u32,
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        (self.mixed.rotate_left(23) ^ self.word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.bytes += 1;
        if self.bytes.is_multiple_of(8) {
            self.mixed = (self.mixed.rotate_left(23) ^ self.word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.word = 0;
        }
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u8(discriminant as u8);
    }

    fn write_usize(&mut self, _length: usize) {
        // Lengths of arrays never differ.
    }
}
