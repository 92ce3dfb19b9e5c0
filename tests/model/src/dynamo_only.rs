//! Writers in DynamoOnly, and what instances know of the phase.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::state::*;
use crate::writers::{end, value};

impl Model {
    /// Begins a write: reads the items.
    pub(crate) fn read_item(&self, s: &State, n: usize, steps: &mut Steps) {
        if may_write(s, n) {
            let next = s.with(|x| {
                let w = &mut x.writers[n];
                (w.at, w.mode) = (At::Read, Mode::TargetAlone);
                for &key in w.op.keys() {
                    w.versions[key] = s.target.versions[key];
                }
            });
            steps.push((Action::ReadItem(n), next));
        }
    }

    /// Puts all rows, each if it is as it was read, or none.
    pub(crate) fn put_exactly(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = s.writers[n];
        if !may_write(s, n) && !self.is(Mutation::SleeperSends) {
            steps.push((Action::Fenced(n), s.with(|x| end(x, n, Outcome::Failed))));
            return;
        }
        let floor =
            if self.is(Mutation::VersionBelowEpoch) { NONE } else { s.instances[n].knows.epoch * EPOCH };
        let version = |read: Version| read.max(floor) + 1;
        let unchanged = w.op.keys().iter().all(|&key| s.target.versions[key] == w.versions[key]);
        let next = s.with(|x| {
            for &key in w.op.keys() {
                if unchanged {
                    let state = value(n, w.op, key, true);
                    self.arrive(x, key, Guard::Exactly(w.versions[key]), version(w.versions[key]), state);
                    if s.target_is_truth() {
                        x.takes_effect(n, key, state);
                    }
                } else {
                    // A lost race: read again.
                    x.writers[n].versions[key] = s.target.versions[key];
                }
            }
            if unchanged {
                end(x, n, Outcome::Applied);
            }
        });
        steps.push((Action::PutExactly(n), next));
        if let (&[key], None, true) = (w.op.keys(), s.late, s.left.faults > 0) {
            let next = s.with(|x| {
                x.left.faults -= 1;
                x.late = Some(Late {
                    key: key as u8,
                    guard: Guard::Exactly(w.versions[key]),
                    version: version(w.versions[key]),
                    value: value(n, w.op, key, true),
                    writer: Some(n as u8),
                });
                let lied = self.is(Mutation::LostTargetWriteIsFailure);
                end(x, n, if lied { Outcome::Failed } else { Outcome::Unknown });
            });
            steps.push((Action::PutExactlyDelayed(n), next));
        }
    }

    /// Instances follow the phase, or lose their lease.
    pub(crate) fn instances(&self, s: &State, steps: &mut Steps) {
        if !self.scope.leases {
            let all = s.with(|x| {
                x.instances.iter_mut().for_each(|instance| instance.knows = served(s, instance.knows))
            });
            if all != *s {
                steps.push((Action::Refresh(0), all));
            }
            return;
        }
        for (n, instance) in s.instances.iter().enumerate() {
            let served = served(s, instance.knows);
            if instance.knows == served && instance.lease {
                continue;
            }
            steps.push((
                Action::Refresh(n),
                s.with(|x| x.instances[n] = Instance { knows: served, lease: true }),
            ));
            if instance.lease {
                steps.push((Action::LeaseOver(n), s.with(|x| x.instances[n].lease = false)));
            }
        }
    }

    /// Whether a step need not wait for any process.
    pub(crate) fn all_have_followed(&self, s: &State) -> bool {
        self.is(Mutation::NoWaitForInstances)
            || s.instances
                .iter()
                .all(|instance| !instance.lease || instance.knows == served(s, instance.knows))
    }
}

fn may_write(s: &State, n: usize) -> bool {
    let Instance { knows, lease } = s.instances[n];
    lease && knows.phase == Phase::DynamoOnly && knows.writes
}

/// Returns what an instance hears when it asks the store that it works on.
fn served(s: &State, knows: Control) -> Control {
    let (at_source, at_target) = (s.source.control, s.target.control);
    if knows.phase == Phase::DynamoOnly && at_target.phase == Phase::DynamoOnly {
        return at_target;
    }
    match at_source.phase {
        Phase::DynamoOnly if at_target.phase == Phase::DynamoOnly && at_target.epoch >= at_source.epoch => {
            at_target
        }
        Phase::DynamoOnly => Control { writes: false, ..at_source },
        _ => at_source,
    }
}
