//! The coordinator: one step at a time, and what recovery makes of one that was broken off. Its parts to
//! DynamoOnly and back are in `moving`.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::scope::Odd;
use crate::state::*;

impl Model {
    pub(crate) fn coordinator(&self, s: &State, steps: &mut Steps) {
        let to = s.coordinator.to;
        match s.coordinator.at {
            Stage::Idle => self.intend(s, steps),
            Stage::Intended if s.target_is_truth() || to == Phase::DynamoOnly => self.moves(s, steps),
            Stage::Intended => {
                let loaded = s.backfill.at == BackfillAt::Done || to < Phase::HybridRead;
                if loaded && self.may_close(s) {
                    steps.push((Action::CloseBarrier, self.next_epoch(s)));
                }
            }
            Stage::Flipping => {
                let next = s.with(|x| {
                    self.flip(x);
                    x.coordinator.at = if to == Phase::DynamoOnly { Stage::Flipped } else { Stage::Settled };
                });
                steps.push((Action::CommitFlip, next));
            }
            Stage::Settled if self.all_have_followed(s) => {
                steps.push((Action::Finish, s.with(|x| self.finish(x))))
            }
            Stage::Settled | Stage::Dead => {}
            Stage::Closed
            | Stage::Flipped
            | Stage::Announced
            | Stage::Noted
            | Stage::Paused
            | Stage::Decided => {
                self.moves(s, steps);
            }
        }
        if !matches!(s.coordinator.at, Stage::Idle | Stage::Dead) && s.left.crashes > 0 {
            let dead = s.with(|x| {
                x.left.crashes -= 1;
                x.coordinator.at = Stage::Dead;
            });
            steps.push((Action::CoordinatorDies, dead));
            let commits = match s.coordinator.at {
                Stage::Flipping => true,
                Stage::Decided => self.nothing_rides(s),
                _ => false,
            };
            if commits {
                steps.push((
                    Action::CoordinatorDiesCommitting,
                    dead.with(|x| x.coordinator.commit_in_flight = true),
                ));
            }
            if let Some(request) = self.next_request(s) {
                let sent = dead.with(|x| x.coordinator.request_in_flight = Some(request));
                steps.push((Action::CoordinatorDiesSending, sent));
            }
        }
        self.recover(s, steps);
    }

    fn intend(&self, s: &State, steps: &mut Steps) {
        // An instance that is behind now would be two behind after the flip.
        let wrong_moment = self.scope.odd == Odd::SharedPlace || s.is_being_returned();
        if s.left.steps == 0 || wrong_moment || !self.all_have_followed(s) {
            return;
        }
        let now = s.source.control.phase;
        let route = self.scope.route;
        let next = route.len().checked_sub(usize::from(s.left.steps)).map(|done| route[done]);
        let near = |to: &Phase| (*to as i8 - now as i8).abs() == 1 && next.is_none_or(|next| next == *to);
        for to in Phase::ALL.into_iter().filter(near) {
            let next = s.with(|x| {
                x.left.steps -= 1;
                x.coordinator.undone = false;
                (x.coordinator.at, x.coordinator.to) = (Stage::Intended, to);
                x.source.journal_open = !self.is(Mutation::JournalAfterFlip);
            });
            steps.push((Action::Intend(to), next));
        }
    }

    /// Whether the barrier can be had.
    pub(crate) fn may_close(&self, s: &State) -> bool {
        self.no_writer_holds_the_barrier(s) && !s.coordinator.commit_in_flight
    }

    /// The sequence is moved at once, and stays moved should the flip never be committed. The target may have
    /// counted further.
    pub(crate) fn next_epoch(&self, s: &State) -> State {
        s.with(|x| {
            let last = if self.is(Mutation::EpochReused) {
                s.source.control.epoch
            } else {
                epoch_of(s.source.sequence)
            };
            x.source.sequence = (last.max(s.target.control.epoch) + 1) * EPOCH;
            x.coordinator.at = Stage::Flipping;
        })
    }

    fn flip(&self, s: &mut State) {
        let to = s.coordinator.to;
        s.source.control = Control { phase: to, epoch: epoch_of(s.source.sequence), writes: true };
        if to == Phase::DynamoOnly {
            let epoch = 1 << s.source.control.epoch;
            s.feed.epochs =
                if self.is(Mutation::FeedSkipsEarlierEpochs) { epoch } else { s.feed.epochs | epoch };
        }
    }

    fn finish(&self, s: &mut State) {
        (s.source.journal_open, s.source.pause_noted) = (false, false);
        s.coordinator.at = Stage::Idle;
        s.feed.on |= s.target_is_truth();
    }

    fn recover(&self, s: &State, steps: &mut Steps) {
        if s.coordinator.commit_in_flight {
            let lands = s.with(|x| {
                match s.where_truth_is() {
                    Where::ToSource => self.copy_back(x),
                    _ => self.flip(x),
                }
                x.coordinator.commit_in_flight = false;
                if !x.source.journal_open {
                    x.broken = Some(crate::invariants::Claim::JournalFirst);
                }
            });
            steps.push((Action::DeadCommitLands, lands));
            steps.push((Action::DeadCommitFails, s.with(|x| x.coordinator.commit_in_flight = false)));
        }
        if let Some(request) = s.coordinator.request_in_flight {
            let lands = s.with(|x| {
                x.coordinator.request_in_flight = None;
                self.change_record(x, request);
            });
            steps.push((Action::DeadRequestLands, lands));
        }
        let behind_barrier = !s.coordinator.commit_in_flight || self.is(Mutation::RecoverBesideTheBarrier);
        let waits = s.where_truth_is() == Where::ToSource && !self.may_close(s);
        if s.coordinator.at != Stage::Dead || !behind_barrier || waits {
            return;
        }
        match self.mended(s) {
            Some(next) => steps.push((Action::Mend, next)),
            None => steps.push((Action::Recover, s.with(|x| self.settle(x)))),
        }
    }

    /// Both records agree: the step has happened, or everything is as it was before it.
    pub(crate) fn settle(&self, s: &mut State) {
        if s.source.journal_open && s.source.control.phase == s.coordinator.to {
            s.coordinator.at = Stage::Settled;
            return;
        }
        s.left.steps += u8::from(!self.scope.route.is_empty());
        (s.source.journal_open, s.source.pause_noted) = (false, false);
        (s.coordinator.at, s.coordinator.undone) = (Stage::Idle, true);
        s.coordinator.to = s.source.control.phase;
    }
}
