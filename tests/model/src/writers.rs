//! Writers while PostgreSQL is the truth: a transaction behind the barrier, then `best_effort` or `strict`.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::state::*;

impl Op {
    /// The rows that it touches, as bits.
    pub(crate) fn mask(self) -> u8 {
        self.keys().iter().fold(0, |mask, key| mask | bit(*key))
    }
}

/// The state that a writer gives a row: that of its last statement, or of its first.
pub(crate) fn value(writer: usize, op: Op, key: Key, last: bool) -> Value {
    let mut statements = op.statements().iter().enumerate().filter(|(_, (of, _))| *of == key);
    let found = if last { statements.next_back() } else { statements.next() };
    match found {
        Some((n, (_, true))) => (1 + writer * 2 + n) as Value,
        _ => GONE,
    }
}

impl Model {
    pub(crate) fn writers(&self, s: &State, steps: &mut Steps) {
        for (n, w) in s.writers.iter().enumerate() {
            match w.at {
                At::Idle | At::Snapped => self.begin(s, n, steps),
                At::Open => self.write_row(s, n, steps),
                At::Wrote => self.mark(s, n, steps),
                At::Ready => self.ready(s, n, steps),
                At::Intended => self.strict(s, n, steps),
                At::Failing => steps.push((Action::RollBack(n), self.roll_back(s, n))),
                At::Committed => self.inline(s, n, steps),
                At::Read => self.put_exactly(s, n, steps),
                At::Done => {}
            }
            let alive = w.in_transaction() || matches!(w.at, At::Committed | At::Read);
            if alive && s.left.crashes > 0 && n != RAW {
                let next = s.with(|x| {
                    x.left.crashes -= 1;
                    end(x, n, Outcome::Unknown);
                });
                steps.push((Action::WriterDies(n), next));
            }
        }
    }

    fn begin(&self, s: &State, n: usize, steps: &mut Steps) {
        let phase = s.source.control.phase;
        let w = &s.writers[n];
        if n == RAW && self.is(Mutation::EpochOfSnapshot) && w.at == At::Idle {
            let next = s.with(|x| {
                x.writers[n].at = At::Snapped;
                x.writers[n].repairs[0] = s.source.control.epoch;
            });
            steps.push((Action::TakeSnapshot(n), next));
            return;
        }
        if n != RAW && s.instances[n].knows.phase == Phase::DynamoOnly {
            return self.read_item(s, n, steps);
        }
        let frozen = phase == Phase::DynamoOnly && !(n == RAW && self.is(Mutation::SourceNotFrozen));
        if frozen || self.barrier_is_closed(s) {
            return;
        }
        let modes: &[Mode] = match phase {
            _ if n == RAW => &[Mode::SourceAlone],
            Phase::DualWrite | Phase::HybridRead if self.scope.any_mode => &[Mode::BestEffort, Mode::Strict],
            Phase::DualWrite => &[Mode::BestEffort],
            Phase::HybridRead => &[Mode::Strict],
            Phase::PostgresOnly | Phase::DynamoOnly => &[Mode::SourceAlone],
        };
        for &mode in modes {
            let next = s.with(|x| {
                let w = &mut x.writers[n];
                (w.at, w.mode, w.phase) = (At::Open, mode, phase);
            });
            steps.push((Action::Begin(n), next));
        }
    }

    fn write_row(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        let (key, put) = w.op.statements()[usize::from(w.statement)];
        if self.is(Mutation::BeforeTrigger) && put && w.repairs[key] == NONE && inserts(s, n, key) {
            let next = s.with(|x| x.writers[n].repairs[key] = x.next_version());
            steps.push((Action::TakeVersionBeforeTheRow(n), next));
            return;
        }
        if s.row_is_locked(key, n) {
            return;
        }
        if w.statement == 0 && self.is_elsewhere(s, key) {
            // No row of this key: nothing was changed.
            steps.push((Action::RollBack(n), s.with(|x| end(x, n, Outcome::Failed))));
            return;
        }
        let next = s.with(|x| {
            let early = std::mem::replace(&mut x.writers[n].repairs[key], NONE);
            let version = match early {
                NONE => x.next_version(),
                epoch if self.is(Mutation::EpochOfSnapshot) => epoch * EPOCH + x.next_version() % EPOCH,
                taken => taken,
            };
            let w = &mut x.writers[n];
            w.at = At::Wrote;
            w.rows |= self.row_of(key);
            w.versions[key] = version;
        });
        steps.push((Action::WriteRow(n), next));
    }

    fn mark(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        let (key, _) = w.op.statements()[usize::from(w.statement)];
        if s.mark_is_locked(key, n) || s.relay.locked & bit(key) != 0 {
            return;
        }
        let next = s.with(|x| {
            // Never the version that is there already, nor one below it (hole 15).
            if w.versions[key] <= s.source.pending[key] && !self.is(Mutation::EpochOfSnapshot) {
                x.writers[n].versions[key] = x.next_version();
            }
            let w = &mut x.writers[n];
            w.marks |= bit(key);
            w.statement += 1;
            w.at = if usize::from(w.statement) == w.op.statements().len() { At::Ready } else { At::Open };
        });
        steps.push((Action::Mark(n), next));
    }

    fn ready(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        if w.mode != Mode::Strict {
            steps.push((Action::Commit(n), self.commit(s, n)));
            return;
        }
        if self.is(Mutation::IntentAfterPut) && w.landed != self.puts(n, w.op) {
            return self.put(s, n, steps);
        }
        let next = s.with(|x| {
            for &key in w.op.keys() {
                x.writers[n].repairs[key] = x.next_version();
            }
            x.writers[n].intents = self.puts(n, w.op);
            x.writers[n].at = At::Intended;
        });
        steps.push((Action::RecordIntent(n), next));
    }

    fn strict(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        if w.landed != self.puts(n, w.op) {
            self.put(s, n, steps);
            if w.lost {
                steps.push((Action::GiveUp(n), s.with(|x| x.writers[n].at = At::Failing)));
            }
            return;
        }
        steps.push((Action::Commit(n), self.commit(s, n)));
        if s.left.faults > 0 {
            let next = s.with(|x| {
                x.left.faults -= 1;
                end(x, n, Outcome::Failed);
            });
            steps.push((Action::CommitFails(n), next));
            // Looked up, it is the same as a commit that was answered.
            if self.is(Mutation::LostCommitIsFailure) {
                let next = self.commit(s, n).with(|x| x.writers[n].outcome = Outcome::Failed);
                steps.push((Action::CommitAnswerLost(n), next));
            }
        }
    }

    /// Sends one put of several, in their order.
    fn put(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        let open = if w.at == At::Committed { w.marks } else { self.puts(n, w.op) & !w.landed };
        let Some(key) = (0..KEYS).find(|key| open & bit(*key) != 0) else { return };
        let image = value(n, w.op, key, !self.is(Mutation::ImageOfFirstStatement));
        let next = s.with(|x| {
            self.arrive(x, key, Guard::Older, w.versions[key], image);
            x.writers[n].landed |= bit(key);
            settle_attempt(x, n, key);
        });
        steps.push((Action::Put(n, key), next));
        if s.left.faults == 0 {
            return;
        }
        let refused = s.with(|x| {
            x.left.faults -= 1;
            settle_attempt(x, n, key);
            if w.mode == Mode::Strict {
                x.writers[n].at = At::Failing;
            }
        });
        steps.push((Action::PutRefused(n, key), refused));
        if s.late.is_none() {
            let (version, guard) = (w.versions[key], Guard::Older);
            let delayed = s.with(|x| {
                x.left.faults -= 1;
                x.late = Some(Late { key: key as u8, guard, version, value: image, writer: Some(n as u8) });
                x.writers[n].lost = w.mode == Mode::Strict;
                settle_attempt(x, n, key);
            });
            steps.push((Action::PutDelayed(n, key), delayed));
        }
    }

    fn inline(&self, s: &State, n: usize, steps: &mut Steps) {
        let w = &s.writers[n];
        if w.marks != 0 {
            return self.put(s, n, steps);
        }
        let next = s.with(|x| {
            for key in (0..KEYS).filter(|key| w.landed & bit(*key) != 0) {
                self.take_out(x, key, w.versions[key]);
            }
            end(x, n, Outcome::Applied);
        });
        steps.push((Action::AcknowledgeInline(n), next));
    }

    /// Acknowledges one key: takes its mark out unless it was marked again, or is being marked.
    pub(crate) fn take_out(&self, s: &mut State, key: Key, delivered: Version) {
        let settled = s.source.pending[key] <= delivered || self.is(Mutation::AcknowledgeAnyVersion);
        if settled && !s.mark_is_locked(key, WRITERS) {
            s.source.pending[key] = NONE;
        }
    }

    fn commit(&self, s: &State, n: usize) -> State {
        let w = s.writers[n];
        s.with(|x| {
            for &key in w.op.keys() {
                let state = value(n, w.op, key, true);
                x.source.rows[key] = state;
                // A strict write takes its own mark out in the transaction: the target has it.
                let settled = w.mode == Mode::Strict && self.puts(n, w.op) & bit(key) != 0;
                x.source.pending[key] = if settled { NONE } else { w.versions[key] };
                if !s.target_is_truth() {
                    x.takes_effect(n, key, state);
                }
            }
            if w.mode == Mode::BestEffort {
                let w = &mut x.writers[n];
                // From here on `marks` are the puts that are still to be tried.
                (w.at, w.rows, w.statement) = (At::Committed, 0, 0);
                w.marks &= self.puts(n, w.op);
            } else {
                x.writers[n].intents = 0;
                end(x, n, Outcome::Applied);
            }
        })
    }

    fn roll_back(&self, s: &State, n: usize) -> State {
        let w = s.writers[n];
        let may_have_landed = w.landed != 0 || (w.lost && !self.is(Mutation::LostPutIsFailure));
        s.with(|x| {
            if !may_have_landed {
                x.writers[n].intents = 0;
            }
            end(x, n, Outcome::Failed);
        })
    }

    /// The sweeper: the intents of a writer that ended without its commit become marks.
    pub(crate) fn sweeper(&self, s: &State, steps: &mut Steps) {
        for (n, w) in s.writers.iter().enumerate() {
            let keys = || (0..KEYS).filter(|key| w.intents & bit(*key) != 0);
            if w.intents == 0
                || w.at != At::Done
                || self.barrier_is_closed(s)
                || keys().any(|key| s.mark_is_locked(key, n))
            {
                continue;
            }
            let next = s.with(|x| {
                for key in keys() {
                    let version = if self.is(Mutation::SweepAtFreshVersion) {
                        x.next_version()
                    } else {
                        w.repairs[key]
                    };
                    x.source.pending[key] = s.source.pending[key].max(version);
                }
                (x.writers[n].intents, x.writers[n].repairs) = (0, [NONE; KEYS]);
            });
            steps.push((Action::Sweep(n), next));
        }
    }
}

/// Whether the statement is an insert: no row is there, or it is being deleted.
fn inserts(s: &State, n: usize, key: Key) -> bool {
    let deleting = |w: &Writer| w.in_transaction() && w.rows & bit(key) != 0 && w.op == Op::Delete0;
    s.source.rows[key] == GONE || s.writers.iter().enumerate().any(|(other, w)| other != n && deleting(w))
}

fn settle_attempt(s: &mut State, n: usize, key: Key) {
    if s.writers[n].at == At::Committed {
        s.writers[n].marks &= !bit(key);
    }
}

/// The writer is over. What does not matter any more is cleared, so that equal states are equal.
pub(crate) fn end(s: &mut State, n: usize, outcome: Outcome) {
    let w = &mut s.writers[n];
    let repairs = if w.intents == 0 { [NONE; KEYS] } else { w.repairs };
    *w = Writer {
        at: At::Done,
        op: Op::Put0,
        mode: Mode::SourceAlone,
        phase: Phase::PostgresOnly,
        statement: 0,
        rows: 0,
        marks: 0,
        versions: [NONE; KEYS],
        landed: 0,
        lost: false,
        repairs,
        outcome,
        ..*w
    };
}
