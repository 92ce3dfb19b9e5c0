//! The model: where it starts, and everything that can happen next.

use crate::action::Action;
use crate::invariants;
use crate::mutation::Mutation;
use crate::scope::Scope;
use crate::state::*;

/// A scope, and perhaps a mutation.
#[derive(Clone, Debug)]
pub struct Model {
    /// Bounds of everything.
    pub scope: Scope,
    /// Rule that is left out.
    pub mutation: Option<Mutation>,
}

/// Steps that can happen next.
pub type Steps = Vec<(Action, State)>;

impl Model {
    /// Whether this mutation is the one.
    pub fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The states to start from: one for each choice of what the writers do.
    pub fn starts(&self) -> Vec<State> {
        let mut starts = Vec::new();
        for &first in self.scope.writers[0] {
            for &second in self.scope.writers[1] {
                for &raw in self.scope.writers[RAW] {
                    starts.push(self.scope.start([first, second, raw]));
                }
            }
        }
        starts
    }

    /// Everything that can happen in `s`. Who comes first is who goes on when no fault occurs, so the order
    /// is also the schedule of healing: who holds locks, then who waits for them.
    pub fn steps(&self, s: &State, steps: &mut Steps) {
        steps.clear();
        self.instances(s, steps);
        self.writers(s, steps);
        self.sweeper(s, steps);
        // 1. A strict writer dies; its put is there, and refuses an older mark. 2. The barrier is closed. 3.
        // The relay would try that mark for ever: the sweeper settles the intent, once the barrier is open
        // again.
        let sweeper_waits = self.barrier_is_closed(s) && s.writers.iter().any(|w| w.intents != 0);
        if sweeper_waits {
            self.coordinator(s, steps);
        }
        self.relay(s, steps);
        self.backfill(s, steps);
        self.feed(s, steps);
        if !sweeper_waits {
            self.coordinator(s, steps);
        }
        self.late(s, steps);
        self.marked_again(s, steps);
        self.restore(s, steps);
    }

    /// The invariant that `s` breaks.
    pub fn broken(&self, s: &State) -> Option<invariants::Claim> {
        invariants::broken(self, s)
    }
}

impl State {
    /// A copy, changed.
    pub fn with(&self, change: impl FnOnce(&mut State)) -> State {
        let mut next = *self;
        change(&mut next);
        next
    }
}
