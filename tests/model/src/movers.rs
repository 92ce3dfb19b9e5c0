//! Actors that move rows: relay, backfill, reverse feed.

use crate::action::Action;
use crate::model::{Model, Steps};
use crate::mutation::Mutation;
use crate::scope::Odd;
use crate::state::*;

impl Model {
    pub(crate) fn relay(&self, s: &State, steps: &mut Steps) {
        let r = s.relay;
        match r.at {
            RelayAt::Idle => self.relay_reads(s, steps),
            RelayAt::HasRows => {
                let next = s.with(|x| {
                    x.relay.keys = pending(s) & r.keys;
                    x.relay.versions = s.source.pending;
                    x.relay.at = RelayAt::Delivering;
                });
                steps.push((Action::RelayReadsMarks, next));
            }
            RelayAt::Delivering if r.delivered == r.keys && self.looks_again(s) => {
                steps.push((Action::RelayLooksAgain, self.looked_again(s)));
            }
            RelayAt::Delivering if r.delivered == r.keys => self.relay_acknowledges(s, steps),
            RelayAt::Looked => self.relay_acknowledges(s, steps),
            RelayAt::Delivering => self.relay_puts(s, steps),
        }
        if r.at != RelayAt::Idle && s.left.crashes > 0 {
            let next = s.with(|x| {
                x.left.crashes -= 1;
                x.relay = IDLE;
            });
            steps.push((Action::RelayDies, next));
        }
    }

    fn relay_reads(&self, s: &State, steps: &mut Steps) {
        let locking = self.is(Mutation::LockedDuringCalls);
        let free = |key: &usize| !locking || !s.mark_is_locked(*key, WRITERS);
        let keys = (0..KEYS).filter(free).fold(0, |mask, key| mask | bit(key)) & pending(s);
        if keys == 0 || s.target_is_truth() {
            return;
        }
        let next = s.with(|x| {
            let mut versions = s.source.pending;
            let mut rows = [self.due(s, 0), self.due(s, 1)];
            for key in (0..KEYS).filter(|key| keys & bit(*key) == 0) {
                (versions[key], rows[key]) = (NONE, GONE);
            }
            x.relay = Relay {
                at: RelayAt::Delivering,
                keys,
                versions,
                rows,
                delivered: keys & self.dropped(s),
                locked: if locking { keys } else { 0 },
                ..s.relay
            };
            if self.is(Mutation::ForUpdateJoined) {
                (x.relay.at, x.relay.versions) = (RelayAt::HasRows, [NONE; KEYS]);
            }
        });
        steps.push((Action::RelayReads, next));
    }

    fn relay_puts(&self, s: &State, steps: &mut Steps) {
        let r = s.relay;
        let Some(key) = (0..KEYS).find(|key| r.keys & !r.delivered & bit(*key) != 0) else { return };
        let next = s.with(|x| {
            if !self.is(Mutation::RelayDeliversElsewhere) {
                let landed = self.arrive(x, key, Guard::Older, r.versions[key], r.rows[key]);
                let (there, seen) = (s.target.items[self.place(key)], s.target.versions[self.place(key)]);
                x.relay.refused[key] = if landed || there == r.rows[key] { NONE } else { seen };
            }
            x.relay.delivered |= bit(key);
        });
        steps.push((Action::RelayPuts(key), next));
        if s.left.faults > 0 && s.late.is_none() {
            // It is repeated until it is answered.
            let next = s.with(|x| {
                x.left.faults -= 1;
                x.late = Some(Late {
                    key: key as u8,
                    guard: Guard::Older,
                    version: r.versions[key],
                    value: r.rows[key],
                    writer: None,
                });
            });
            steps.push((Action::RelayPutDelayed(key), next));
        }
    }

    fn relay_acknowledges(&self, s: &State, steps: &mut Steps) {
        let r = s.relay;
        if self.is(Mutation::AcknowledgeWaits) && r.locked != r.keys {
            // In another order than applications lock them.
            if let Some(key) = (0..KEYS).rev().find(|key| r.keys & !r.locked & bit(*key) != 0)
                && !s.mark_is_locked(key, WRITERS)
            {
                steps.push((Action::RelayLocksMark(key), s.with(|x| x.relay.locked |= bit(key))));
            }
            return;
        }
        let next = s.with(|x| {
            x.relay = IDLE;
            for key in (0..KEYS).filter(|key| r.keys & bit(*key) != 0) {
                if r.refused[key] == NONE {
                    self.take_out(x, key, r.versions[key]);
                } else {
                    self.judge(s, x, key);
                }
            }
        });
        steps.push((Action::RelayAcknowledges, next));
    }

    pub(crate) fn backfill(&self, s: &State, steps: &mut Steps) {
        let early = self.is(Mutation::DoneWhenRead);
        let b = s.backfill;
        if b.at == BackfillAt::NotBegun && !s.target_is_truth() {
            let next = s.with(|x| {
                let left =
                    (0..KEYS).filter(|key| s.source.rows[*key] != GONE).fold(0, |mask, key| mask | bit(key));
                let at = if early { BackfillAt::Done } else { BackfillAt::Delivering };
                x.backfill = Backfill { at, rows: s.source.rows, left };
            });
            steps.push((Action::BackfillReads, next));
        }
        if let Some(key) = (0..KEYS).find(|key| b.left & bit(*key) != 0) {
            let next = s.with(|x| {
                self.arrive(x, key, Guard::Absent, INITIAL_LOAD, b.rows[key]);
                x.backfill.left &= !bit(key);
                x.backfill.rows[key] = GONE;
            });
            steps.push((Action::BackfillPuts(key), next));
            if s.left.faults > 0 && s.late.is_none() {
                let (guard, version, value) = (Guard::Absent, INITIAL_LOAD, b.rows[key]);
                let next = s.with(|x| {
                    x.left.faults -= 1;
                    x.late = Some(Late { key: key as u8, guard, version, value, writer: None });
                });
                steps.push((Action::BackfillPutDelayed(key), next));
            }
        } else if b.at == BackfillAt::Delivering {
            steps.push((Action::BackfillDone, s.with(|x| x.backfill.at = BackfillAt::Done)));
        }
        let working = b.at == BackfillAt::Delivering || b.left != 0;
        if working && s.left.crashes > 0 {
            let next = s.with(|x| {
                x.left.crashes -= 1;
                let at = if early { BackfillAt::Done } else { BackfillAt::NotBegun };
                x.backfill = Backfill { at, rows: [GONE; KEYS], left: 0 };
            });
            steps.push((Action::BackfillDies, next));
        }
    }

    pub(crate) fn feed(&self, s: &State, steps: &mut Steps) {
        // In DynamoOnly it writes the source, behind the barrier like every writer. After the way back what
        // arrives is a write that was never acknowledged: its key is marked, behind the closed barrier, since
        // the feed has no row lock.
        let alone = self.no_writer_holds_the_barrier(s) || self.is(Mutation::FeedMarksBesideWriters);
        let may = !self.barrier_is_closed(s) && (s.target_is_truth() || alone);
        if let Some(record) = s.feed.held {
            if may {
                let next = s.with(|x| {
                    x.feed.held = None;
                    self.apply(x, record);
                });
                steps.push((Action::FeedApplies, next));
            }
            if s.left.crashes > 0 {
                let next = s.with(|x| {
                    x.left.crashes -= 1;
                    x.feed.held = None;
                });
                steps.push((Action::FeedDies, next));
            }
            return;
        }
        let may_bring =
            |key: Key| may && s.target_is_truth() && !self.is_refused(s, key, s.target.items[key]);
        for key in (0..KEYS).filter(|key| s.feed.riders & bit(*key) != 0 && may_bring(*key)) {
            let next = s.with(|x| {
                x.source.rows[key] = s.target.items[key];
                x.feed.riders &= !bit(key);
            });
            steps.push((Action::FeedBringsBack(key), next));
        }
        if s.unread().is_empty() || !may {
            return;
        }
        let (key, _, value) = s.unread()[0];
        if self.is(Mutation::FeedStopsAtRefused) && self.is_refused(s, usize::from(key), value) {
            return;
        }
        let in_two = self.is(Mutation::PositionBeforeRows);
        let next = s.with(|x| {
            let record = x.pop_record();
            if in_two { x.feed.held = Some(record) } else { self.apply(x, record) }
        });
        steps.push((if in_two { Action::FeedSavesPosition } else { Action::FeedApplies }, next));
    }

    fn apply(&self, s: &mut State, (key, version, value): (u8, Version, Value)) {
        let (key, any) = (usize::from(key), self.is(Mutation::FeedTakesAnyEpoch));
        let earlier =
            epoch_of(version) < s.source.control.epoch && !self.is(Mutation::FeedBelievesEarlierRecords);
        if !s.target_is_truth() && !any {
            s.source.pending[key] = s.next_version();
        } else if earlier && !any {
            // Of a DynamoOnly that is over it may be news or old: its item says which.
            if s.feed.epochs >> epoch_of(s.target.versions[key]) & 1 == 1 {
                s.source.rows[key] = s.target.items[key];
            }
        } else if !self.is_refused(s, key, value) {
            s.source.rows[key] = value;
        } else if !self.is(Mutation::RefusedRowForgotten) {
            s.feed.riders |= bit(key);
        }
        if self.scope.odd == Odd::Rides && key == 0 && s.target_is_truth() {
            s.source.rows[1] = DRAGGED;
            if !self.is(Mutation::RidersUnseen) {
                s.feed.riders |= bit(1);
            }
        }
    }
}

fn pending(s: &State) -> u8 {
    (0..KEYS).filter(|key| s.source.pending[*key] != NONE).fold(0, |mask, key| mask | bit(key))
}
