//! PostgreSQL restored to a moment of DynamoOnly after the truth had come back to it: it refuses writes, and
//! DynamoDB's record sends every process to it (P5).

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::scope::Odd;
use crate::state::*;
use crate::writers::end;

impl State {
    /// Whether a restore is not dealt with yet.
    pub fn is_being_returned(&self) -> bool {
        matches!(self.restored, Restored::Lost | Restored::Read | Restored::Returned)
    }
}

impl Model {
    pub(crate) fn restore(&self, s: &State, steps: &mut Steps) {
        match s.restored {
            Restored::Not if self.scope.odd == Odd::Restored && s.where_truth_is() == Where::Source => {
                steps.push((Action::RestoreSource, self.restore_source(s)));
            }
            // Each of both records names the other store.
            Restored::Lost if self.is(Mutation::NoWayOnFromRestore) => {}
            Restored::Lost if self.is(Mutation::RestoredFollowsRecord) => {
                let next = s.with(|x| {
                    self.copy_back(x);
                    x.restored = Restored::Returned;
                });
                steps.push((Action::CopyBack, next));
            }
            // No application writes DynamoDB any more, so it is still that when PostgreSQL is the truth.
            Restored::Lost => {
                let next = s.with(|x| {
                    x.source.rows = s.target.items;
                    x.restored = Restored::Read;
                });
                steps.push((Action::ReadEveryItem, next));
            }
            Restored::Read => steps.push((Action::ReturnToSource, self.return_to_source(s))),
            Restored::Returned if self.all_have_followed(s) => {
                steps.push((Action::RestoreIsOver, s.with(|x| x.restored = Restored::Over)));
            }
            Restored::Not | Restored::Returned | Restored::Over => {}
        }
    }

    /// Restores the source: what PostgreSQL knew alone is lost; what DynamoDB has is the only copy.
    /// Transactions and the relay end with the server, and a restore takes longer than a request or a stream
    /// lives.
    fn restore_source(&self, s: &State) -> State {
        let then = self.scope.start([None; WRITERS]);
        s.with(|x| {
            (x.source, x.feed, x.relay, x.late) = (then.source, then.feed, IDLE, None);
            x.coordinator = then.coordinator;
            x.target.stream_len = 0;
            x.truth = Truth { rows: s.target.items, maybe: None };
            for (n, w) in s.writers.iter().enumerate() {
                (x.writers[n].intents, x.writers[n].repairs) = (0, [NONE; KEYS]);
                if w.in_transaction() || w.at == At::Committed {
                    end(x, n, Outcome::Unknown);
                }
            }
            x.restored = Restored::Lost;
        })
    }

    fn return_to_source(&self, s: &State) -> State {
        let seen = if self.is(Mutation::RestoredCountsOn) { 0 } else { s.target.control.epoch };
        let epoch = epoch_of(s.source.sequence).max(s.source.control.epoch).max(seen) + 1;
        s.with(|x| {
            x.source.sequence = epoch * EPOCH;
            x.source.control = Control { phase: Phase::DualWrite, epoch, writes: true };
            x.target.control = Control { phase: Phase::DualWrite, epoch, writes: false };
            x.restored = Restored::Returned;
        })
    }
}
