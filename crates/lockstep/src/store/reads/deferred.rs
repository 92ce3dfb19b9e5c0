//! Keys whose last write by this instance has not reached the target, so that their reads go to the source:
//! read your writes.
//!
//! A key leaves when the source says that it is no longer pending; see `standing`, which asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::{SourceKey, TableHandle};

use super::route::{Asked, OwnWrites, hash_of_place};

/// Most keys remembered one by one: about a second of writes of a busy instance, and what one question to the
/// source can ask about. Beyond it every read goes to the source, which is right, if slower, until what was
/// left out has drained.
pub(super) const DEFERRED_KEYS_MAX: usize = 4_096;

/// Least time for which reads go to the source after a write whose end is not known: its statement may wait
/// for a lock still.
const UNHEARD_FOR: Duration = Duration::from_secs(10);

/// The set. Reading whether it is empty, which it almost always is, takes one atomic load.
pub(super) struct Deferred {
    table: TableHandle,
    /// Keys held, plus one while some were left out.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Keys by the hash of their place in the target; two keys may share one.
    keys: HashMap<u64, Vec<(SourceKey, Turn)>>,
    held: usize,
    /// Time at which a key was last left out.
    left_out: Option<Instant>,
    /// Least time from then on for which it counts.
    left_out_for: Duration,
    turn: Turn,
}

/// Counts additions. 1. A question to the source starts, naming k. 2. k is delivered, and the source says
/// so. 3. k is written and deferred again. 4. The answer arrives; it is about the earlier write, so k must
/// stay. Turns tell the two apart.
type Turn = u64;

/// The keys that a question to the source names.
pub(super) struct Taken {
    pub(super) keys: Vec<SourceKey>,
    turn: Turn,
    left_out: Option<Instant>,
}

impl Deferred {
    pub(super) fn new(table: TableHandle) -> Self {
        Self { table, count: AtomicUsize::new(0), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether a read must go to the source because of a write of this instance.
    pub(super) fn holds(&self, asked: Asked) -> OwnWrites {
        if self.len() == 0 {
            return OwnWrites::Arrived;
        }
        let state = self.state();
        match asked {
            _ if state.left_out.is_some() => OwnWrites::Overflow,
            // Which rows a query would answer is not known before it has; so any key counts.
            Asked::Query(_) if state.held > 0 => OwnWrites::Deferred,
            Asked::Key(hash) if state.keys.contains_key(&hash) => OwnWrites::Deferred,
            _ => OwnWrites::Arrived,
        }
    }

    /// Adds keys.
    pub(super) fn add(&self, keys: Vec<SourceKey>) {
        let mut state = self.state();
        state.turn += 1;
        for key in keys {
            // A key that no item can have is not in the target; reading it there is a miss.
            let Ok(place) = self.table.target_key(&key) else { continue };
            state.add(hash_of_place(&place), key);
        }
        self.publish(&state);
    }

    /// Sends every read to the source until all marks are younger than now, and for [`UNHEARD_FOR`] at least.
    ///
    /// 1. The one statement of a write waits for a lock, and its caller no longer waits for it. 2. It has no
    /// mark yet, so that by the marks nothing is on its way. 3. It commits a moment later.
    pub(super) fn leave_out(&self) {
        let mut state = self.state();
        state.left_out = Some(Instant::now());
        state.left_out_for = UNHEARD_FOR;
        self.publish(&state);
    }

    /// The keys to ask the source about.
    pub(super) fn take(&self) -> Taken {
        let state = self.state();
        let keys = state.keys.values().flatten().map(|(key, _)| key.clone()).collect();
        Taken { keys, turn: state.turn, left_out: state.left_out }
    }

    /// Removes what was taken and is not `still` pending. `oldest` is the age of the oldest pending key of
    /// the table as it was at `asked_at` or later; `None` where there is no such key.
    pub(super) fn take_out(
        &self,
        taken: &Taken,
        still: &[SourceKey],
        oldest: Option<Duration>,
        asked_at: Instant,
    ) {
        let mut state = self.state();
        let turn = taken.turn;
        state.keys.retain(|_, keys| {
            keys.retain(|(key, added)| *added > turn || still.contains(key));
            !keys.is_empty()
        });
        state.held = state.keys.values().map(Vec::len).sum();
        // A mark keeps its age until what it stood for was delivered, so when all marks are younger than the
        // last key that was left out, that key has been delivered. Both ends are durations: the two clocks
        // need not agree.
        if let (Some(left_out), true) = (state.left_out, state.left_out == taken.left_out) {
            let since = asked_at.saturating_duration_since(left_out);
            if since >= state.left_out_for && oldest.is_none_or(|oldest| oldest < since) {
                state.left_out = None;
                state.left_out_for = Duration::ZERO;
            }
        }
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        self.count.store(state.held + usize::from(state.left_out.is_some()), Ordering::Release);
    }
}

impl State {
    fn add(&mut self, hash: u64, key: SourceKey) {
        let turn = self.turn;
        let full = self.held >= DEFERRED_KEYS_MAX;
        let keys = self.keys.entry(hash).or_default();
        if let Some((_, added)) = keys.iter_mut().find(|(known, _)| *known == key) {
            *added = turn;
        } else if full {
            self.left_out = Some(Instant::now());
            if keys.is_empty() {
                self.keys.remove(&hash);
            }
        } else {
            keys.push((key, turn));
            self.held += 1;
        }
    }
}

#[cfg(test)]
mod tests;
