//! The coordinator: one step at a time, and what recovery makes of one that was broken off.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::state::*;

impl Model {
    pub(crate) fn coordinator(&self, s: &State, steps: &mut Steps) {
        let to = s.coordinator.to;
        let back = s.target_is_truth();
        match s.coordinator.at {
            Stage::Idle => self.intend(s, steps),
            Stage::Intended if back => {
                let pause = |x: &mut State| {
                    x.target.control.writes = self.is(Mutation::FlipBackUnpaused);
                    x.coordinator.at = Stage::Paused;
                };
                steps.push((Action::Pause, s.with(pause)));
            }
            Stage::Intended if to == Phase::DynamoOnly && !s.feed.on && !self.is(Mutation::FeedStartsLate) => {
                steps.push((Action::StartFeed, s.with(|x| x.feed.on = true)));
            }
            Stage::Intended if self.ready_for(s, to) => steps.push((Action::CloseBarrier, self.close_barrier(s))),
            Stage::Intended => {}
            Stage::Paused => {
                let drained = s.unread().is_empty() && s.feed.held.is_none() || self.is(Mutation::FlipBackUndrained);
                if drained && self.all_have_followed(s) {
                    steps.push((Action::CloseBarrier, self.close_barrier(s)));
                }
                steps.push((Action::Unpause, s.with(|x| give_back(x, !self.scope.route.is_empty()))));
            }
            Stage::Flipping => {
                let next = s.with(|x| {
                    self.flip(x);
                    x.coordinator.at = Stage::Flipped;
                });
                steps.push((Action::CommitFlip, next));
            }
            Stage::Flipped => self.flipped(s, steps),
            Stage::Announced if self.all_have_followed(s) => {
                let resume = s.with(|x| {
                    x.target.control.writes = to == Phase::DynamoOnly;
                    x.coordinator.at = Stage::Resumed;
                });
                steps.push((Action::Resume, resume));
            }
            Stage::Announced => {}
            Stage::Resumed => steps.push((Action::Finish, s.with(|x| self.finish(x)))),
            Stage::Dead => {}
        }
        if let Stage::Intended | Stage::Paused | Stage::Flipping | Stage::Flipped | Stage::Announced | Stage::Resumed =
            s.coordinator.at
            && s.left.crashes > 0
        {
            let dead = s.with(|x| {
                x.left.crashes -= 1;
                x.coordinator.at = Stage::Dead;
            });
            steps.push((Action::CoordinatorDies, dead));
            if s.coordinator.at == Stage::Flipping {
                steps.push((Action::CoordinatorDiesCommitting, dead.with(|x| x.coordinator.commit_in_flight = true)));
            }
        }
        self.recover(s, steps);
    }

    fn intend(&self, s: &State, steps: &mut Steps) {
        if s.left.steps == 0 {
            return;
        }
        let now = s.source.control.phase;
        let route = self.scope.route;
        let next = route.len().checked_sub(usize::from(s.left.steps)).map(|done| route[done]);
        let near = |to: &Phase| (*to as i8 - now as i8).abs() == 1 && next.is_none_or(|next| next == *to);
        for to in Phase::ALL.into_iter().filter(near) {
            let next = s.with(|x| {
                x.left.steps -= 1;
                (x.coordinator.at, x.coordinator.to) = (Stage::Intended, to);
                x.source.journal_open = !self.is(Mutation::JournalAfterFlip);
            });
            steps.push((Action::Intend(to), next));
        }
    }

    /// What must hold at the flip, asked behind the closed barrier.
    fn ready_for(&self, s: &State, to: Phase) -> bool {
        let loaded = s.backfill.at == BackfillAt::Done || to < Phase::HybridRead;
        let nothing_pending = self.is(Mutation::FlipOverPending) || s.source.pending == [NONE; KEYS];
        let no_intents = self.is(Mutation::FlipOverIntents) || s.writers.iter().all(|w| w.intents == 0);
        let drained = s.unread().is_empty() && s.feed.held.is_none() || self.is(Mutation::FlipThereUndrained);
        loaded
            && (nothing_pending && no_intents && drained || to != Phase::DynamoOnly)
            && self.nobody_writes(s)
            && !s.coordinator.commit_in_flight
    }

    /// The sequence is moved at once, and stays moved should the flip never be committed.
    fn close_barrier(&self, s: &State) -> State {
        s.with(|x| {
            let last = if self.is(Mutation::EpochReused) { s.source.control.epoch } else { epoch_of(s.source.sequence) };
            x.source.sequence = (last + 1) * EPOCH;
            x.coordinator.at = Stage::Flipping;
        })
    }

    fn flip(&self, s: &mut State) {
        let to = s.coordinator.to;
        s.source.control = Control { phase: to, epoch: epoch_of(s.source.sequence), writes: true };
        if to == Phase::DynamoOnly {
            let epoch = 1 << s.source.control.epoch;
            s.feed.epochs = if self.is(Mutation::FeedSkipsEarlierEpochs) { epoch } else { s.feed.epochs | epoch };
        }
        if self.is(Mutation::JournalAfterFlip) {
            s.source.journal_open = false;
        }
    }

    fn flipped(&self, s: &State, steps: &mut Steps) {
        let now = s.source.control;
        if self.is(Mutation::JournalAfterFlip) && !s.source.journal_open {
            steps.push((Action::Announce, s.with(|x| x.source.journal_open = true)));
        } else if now.phase == Phase::DynamoOnly || s.target.control.phase == Phase::DynamoOnly {
            let next = s.with(|x| {
                x.target.control = Control { writes: false, ..now };
                x.coordinator.at = Stage::Announced;
            });
            steps.push((Action::Announce, next));
        } else if self.all_have_followed(s) {
            steps.push((Action::Finish, s.with(|x| self.finish(x))));
        }
    }

    fn finish(&self, s: &mut State) {
        s.source.journal_open = false;
        s.coordinator.at = Stage::Idle;
        s.feed.on |= s.target_is_truth();
    }

    fn recover(&self, s: &State, steps: &mut Steps) {
        if s.coordinator.commit_in_flight {
            let lands = s.with(|x| {
                self.flip(x);
                x.coordinator.commit_in_flight = false;
                if !x.source.journal_open {
                    x.broken = Some(crate::invariants::Claim::JournalFirst);
                }
            });
            steps.push((Action::DeadCommitLands, lands));
            steps.push((Action::DeadCommitFails, s.with(|x| x.coordinator.commit_in_flight = false)));
        }
        let behind_barrier = !s.coordinator.commit_in_flight || self.is(Mutation::RecoverBesideTheBarrier);
        if s.coordinator.at == Stage::Dead && behind_barrier {
            let next = s.with(|x| {
                if s.source.journal_open && s.source.control.phase == s.coordinator.to {
                    x.coordinator.at = Stage::Flipped;
                } else {
                    give_back(x, !self.scope.route.is_empty());
                }
            });
            steps.push((Action::Recover, next));
        }
    }
}

/// Everything as it was before the step.
fn give_back(s: &mut State, again: bool) {
    s.left.steps += u8::from(again);
    if s.target_is_truth() {
        s.target.control.writes = true;
    }
    s.source.journal_open = false;
    s.coordinator.at = Stage::Idle;
    s.coordinator.to = s.source.control.phase;
}
