//! Moving the truth: to DynamoOnly, back from it, and what either leaves to be repaired. Each move is decided
//! by one write to the store that the truth leaves, and then copied to the other one.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::state::*;

impl Model {
    pub(crate) fn moves(&self, s: &State, steps: &mut Steps) {
        let at = |stage: Stage| move |x: &mut State| x.coordinator.at = stage;
        let request = |x: &mut State, stage: Stage| {
            if let Some(request) = self.next_request(s) {
                self.change_record(x, request);
                x.coordinator.at = stage;
            }
        };
        match s.coordinator.at {
            // Back.
            Stage::Intended if s.target_is_truth() => {
                let next = s.with(|x| {
                    x.source.pause_noted = true;
                    if !self.is(Mutation::PauseEpochNotNoted) {
                        x.feed.epochs |= 1 << (s.target.control.epoch + 1);
                    }
                    x.coordinator.at = Stage::Noted;
                });
                steps.push((Action::NotePause, next));
            }
            Stage::Noted => steps.push((Action::Pause, s.with(|x| request(x, Stage::Paused)))),
            Stage::Paused if self.next_request(s).is_some() => {
                steps.push((Action::Decide, s.with(|x| request(x, Stage::Decided))));
            }
            Stage::Decided if self.may_close(s) && self.nothing_rides(s) => {
                let next = s.with(|x| {
                    self.copy_back(x);
                    x.coordinator.at = Stage::Settled;
                });
                steps.push((Action::CopyBack, next));
            }
            // There.
            Stage::Intended if !s.feed.on && !self.is(Mutation::FeedStartsLate) => {
                steps.push((Action::StartFeed, s.with(|x| x.feed.on = true)));
            }
            Stage::Intended if s.backfill.at == BackfillAt::Done && self.may_close(s) => {
                steps.push((Action::CloseBarrier, s.with(at(Stage::Closed))));
            }
            Stage::Closed if self.nothing_open(s) => {
                steps.push((Action::LookBehindBarrier, self.next_epoch(s)))
            }
            // The pending keys are delivered now; an open intent can be settled with the barrier open only.
            Stage::Closed => steps.push((Action::OpenBarrier, s.with(at(Stage::Intended)))),
            Stage::Flipped => steps.push((Action::Announce, s.with(|x| request(x, Stage::Announced)))),
            Stage::Announced if self.next_request(s).is_some() => {
                steps.push((Action::Resume, s.with(|x| request(x, Stage::Settled))));
            }
            _ => {}
        }
        // A record of another migration is told by its owner, so ours stays as it is.
        let record = s.target.control;
        if self.is(Mutation::ForeignRecordObeyed) && record.phase == Phase::DynamoOnly {
            let epoch = record.epoch + 1;
            let left = Control { phase: Phase::HybridRead, epoch, writes: false };
            steps.push((Action::ForeignLeaves, s.with(|x| x.target.control = left)));
        }
        // The bound is missed, or a request is refused for good.
        if matches!(s.coordinator.at, Stage::Flipped | Stage::Announced | Stage::Noted | Stage::Paused)
            && s.left.faults > 0
        {
            let next = s.with(|x| {
                x.left.faults -= 1;
                x.coordinator.at = Stage::Dead;
            });
            steps.push((Action::GiveUpStep, next));
        }
    }

    /// Tells whether what must hold at the flip to DynamoOnly does, asked behind the closed barrier.
    fn nothing_open(&self, s: &State) -> bool {
        let nothing_pending = self.is(Mutation::FlipOverPending) || s.source.pending == [NONE; KEYS];
        nothing_pending && (self.is(Mutation::FlipOverIntents) || s.writers.iter().all(|w| w.intents == 0))
    }

    /// The change of the target's record that comes next, once what must hold for it does.
    pub(crate) fn next_request(&self, s: &State) -> Option<Request> {
        let epoch = s.target.control.epoch;
        match s.coordinator.at {
            Stage::Flipped => Some(Request::Enter(s.source.control.epoch)),
            Stage::Announced => self.all_have_followed(s).then_some(Request::Open(epoch)),
            Stage::Noted => Some(Request::Pause(epoch)),
            Stage::Paused => {
                let drained =
                    s.unread().is_empty() && s.feed.held.is_none() || self.is(Mutation::FlipBackUndrained);
                let drained = drained && s.feed.riders == 0;
                let stopped = self.all_have_followed(s) || self.is(Mutation::FlipBackOverLeases);
                (drained && stopped).then_some(Request::Leave(epoch))
            }
            _ => None,
        }
    }

    /// A change of the target's record, where it is as it was read.
    pub(crate) fn change_record(&self, s: &mut State, request: Request) {
        let unpaused = self.is(Mutation::FlipBackUnpaused);
        let now = s.target.control;
        let paused = !now.writes || unpaused;
        s.target.control = match request {
            Request::Enter(epoch) if now.epoch < epoch => {
                s.target.since = epoch;
                Control { phase: Phase::DynamoOnly, epoch, writes: false }
            }
            Request::Open(epoch) if now.epoch == epoch && paused => Control { writes: true, ..now },
            Request::Pause(epoch) if now.epoch == epoch && now.writes => {
                Control { epoch: epoch + 1, writes: unpaused, ..now }
            }
            Request::Leave(epoch) if now.epoch == epoch && paused => {
                Control { phase: Phase::HybridRead, epoch: epoch + 1, writes: false }
            }
            _ => now,
        };
    }

    /// Whether PostgreSQL is what DynamoDB says, so that it may be the truth.
    pub(crate) fn nothing_rides(&self, s: &State) -> bool {
        s.feed.riders == 0 || self.is(Mutation::CopyBackOverRiders)
    }

    /// Makes of what rode along what DynamoDB says.
    pub(crate) fn bring_back(&self, s: &mut State) {
        for key in (0..KEYS).filter(|key| s.feed.riders & bit(*key) != 0) {
            s.source.rows[key] = s.target.items[key];
        }
        s.feed.riders = 0;
    }

    /// The source's record follows the target's, behind the barrier.
    pub(crate) fn copy_back(&self, s: &mut State) {
        let epoch = (epoch_of(s.source.sequence) + 1).max(s.target.control.epoch);
        s.source.sequence = epoch * EPOCH;
        s.source.control = Control { phase: s.target.control.phase, epoch, writes: true };
    }

    /// Returns the state that both records ask for after a step was broken off; `None` where they are at
    /// rest.
    pub(crate) fn mended(&self, s: &State) -> Option<State> {
        let record = s.target.control;
        let change = |request: Request| s.with(|x| self.change_record(x, request));
        match s.where_truth_is() {
            Where::ToTarget => Some(change(Request::Enter(s.source.control.epoch))),
            Where::ToSource if !self.nothing_rides(s) => Some(s.with(|x| self.bring_back(x))),
            Where::ToSource => Some(s.with(|x| self.copy_back(x))),
            // No application has written there yet.
            Where::Target if !record.writes && record.epoch == s.target.since => {
                Some(change(Request::Leave(record.epoch)))
            }
            Where::Target if !record.writes => {
                Some(change(Request::Open(record.epoch)).with(|x| x.source.pause_noted = false))
            }
            // A pause may be under way that no coordinator would end: one of our own takes away what it
            // starts from.
            Where::Target if s.source.pause_noted && !self.is(Mutation::PauseNotOutrun) => {
                Some(s.with(|x| {
                    x.source.pause_noted = false;
                    x.feed.epochs |= 1 << (record.epoch + 1);
                    x.target.control.epoch += 1;
                }))
            }
            Where::Target | Where::Source | Where::Lost => None,
        }
    }
}
