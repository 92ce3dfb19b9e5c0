//! The phase that an instance knows, and until when it may go by it: read by every operation, written once a
//! second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use lockstep_core::{Control, Epoch, Phase};

use super::moment::Moment;

/// What is known, as a sequence lock: readers take no lock and wait only for a writer in the middle of eight
/// stores.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Odd while it is being written.
    sequence: AtomicU64,
    /// Place of the phase in [`Phase::ALL`], from 1; 0 when nothing is known.
    phase: AtomicU64,
    epoch: AtomicI64,
    changed_at_us: AtomicI64,
    writes_paused: AtomicBool,
    asked_us: AtomicU64,
    until_mono_us: AtomicU64,
    until_wall_us: AtomicU64,
    writing: Mutex<()>,
    /// Counts how often everything was forgotten: a lease that was given up is never the same lease again.
    leases: AtomicU64,
    /// Writes to the target as the truth that are under way, by the epoch that they go by.
    under_way: Mutex<BTreeMap<Epoch, usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    control: Control,
    asked_us: u64,
    until: Moment,
}

impl Known {
    /// The phase, if at `now` it may still be gone by.
    pub(crate) fn at(&self, now: Moment) -> Option<Control> {
        self.read().filter(|fact| now.is_before(fact.until)).map(|fact| fact.control)
    }

    /// The epoch that was heard of last, whether or not it may still be gone by.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.read().map(|fact| fact.control.epoch)
    }

    /// What was heard of last, whether or not it may still be gone by.
    pub(crate) fn last(&self) -> Option<Control> {
        self.read().map(|fact| fact.control)
    }

    /// For how long from `now` the phase may still be gone by; nothing when it may not.
    pub(crate) fn left(&self, now: Moment) -> Option<Duration> {
        self.read().and_then(|fact| now.until(fact.until))
    }

    /// Which lease this is; see [`Known::forget`].
    pub(crate) fn lease(&self) -> u64 {
        self.leases.load(SeqCst)
    }

    /// Counts a write that goes by `epoch`; says whether that is still the epoch. Order matters: counted
    /// first, looked at second, while the keeper learns first and counts second, so one of the two sees the
    /// other.
    pub(crate) fn enter(&self, epoch: Epoch) -> bool {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner).entry(epoch).or_default() += 1;
        let still = self.epoch() == Some(epoch);
        if !still {
            self.leave(epoch);
        }
        still
    }

    /// The write is over.
    pub(crate) fn leave(&self, epoch: Epoch) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writes) = under_way.get_mut(&epoch) {
            *writes -= 1;
            if *writes == 0 {
                under_way.remove(&epoch);
            }
        }
    }

    /// The epoch that may be acknowledged: nothing of an older one is under way.
    pub(crate) fn acknowledgeable(&self) -> Option<Epoch> {
        let epoch = self.epoch()?;
        let oldest = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied();
        Some(oldest.map_or(epoch, |oldest| oldest.min(epoch)))
    }

    /// Learns what the truth said to a question that was sent at `asked`, and that it may be gone by for
    /// `lease` from then: not from the answer, which may have been on its way for a while. `None` where the
    /// question renewed no lease: a newer phase is taken over, and the lease ends when it would have. Says
    /// whether the phase is another one now.
    pub(crate) fn learn(&self, control: Control, asked: Moment, lease: Option<Duration>) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read();
        // A renewal may be answered after a write that was asked later has seen the next phase.
        let newest = before.filter(|fact| fact.asked_us > asked.mono_us);
        let lease_end = lease.map(|lease| asked.plus(lease));
        let until = match (before.map(|fact| fact.until), lease_end) {
            (Some(known), Some(end)) if end.mono_us < known.mono_us => known,
            (_, Some(end)) => end,
            (known, None) => known.unwrap_or_default(),
        };
        let fact = Fact {
            control: newest.map_or(control, |fact| fact.control),
            asked_us: newest.map_or(asked.mono_us, |fact| fact.asked_us),
            until,
        };
        self.write(Some(fact));
        before.is_none_or(|before| before.control != fact.control)
    }

    /// Knows nothing any more.
    pub(crate) fn forget(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.leases.fetch_add(1, SeqCst);
        self.write(None);
    }

    fn read(&self) -> Option<Fact> {
        loop {
            let before = self.sequence.load(SeqCst);
            let phase = self.phase.load(SeqCst);
            let epoch = Epoch(self.epoch.load(SeqCst));
            let changed_at_us = self.changed_at_us.load(SeqCst);
            let writes_paused = self.writes_paused.load(SeqCst);
            let asked_us = self.asked_us.load(SeqCst);
            let until =
                Moment { mono_us: self.until_mono_us.load(SeqCst), wall_us: self.until_wall_us.load(SeqCst) };
            if before.is_multiple_of(2) && self.sequence.load(SeqCst) == before {
                let phase = *Phase::ALL.get(usize::try_from(phase).ok()?.checked_sub(1)?)?;
                let changed_at = DateTime::from_timestamp_micros(changed_at_us).unwrap_or_default();
                return Some(Fact {
                    control: Control { phase, epoch, changed_at, writes_paused },
                    asked_us,
                    until,
                });
            }
            std::hint::spin_loop();
        }
    }

    /// The caller holds `writing`.
    fn write(&self, fact: Option<Fact>) {
        self.sequence.fetch_add(1, SeqCst);
        if let Some(Fact { control, asked_us, until }) = fact {
            self.epoch.store(control.epoch.0, SeqCst);
            self.changed_at_us.store(control.changed_at.timestamp_micros(), SeqCst);
            self.writes_paused.store(control.writes_paused, SeqCst);
            self.asked_us.store(asked_us, SeqCst);
            self.until_mono_us.store(until.mono_us, SeqCst);
            self.until_wall_us.store(until.wall_us, SeqCst);
        }
        let place = fact.and_then(|fact| Phase::ALL.iter().position(|phase| *phase == fact.control.phase));
        self.phase.store(place.map_or(0, |place| place as u64 + 1), SeqCst);
        self.sequence.fetch_add(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Option<Duration> = Some(Duration::from_micros(100));

    fn control(phase: Phase, epoch: i64) -> Control {
        let changed_at = DateTime::from_timestamp_micros(epoch).expect("a time");
        Control { phase, epoch: Epoch(epoch), changed_at, writes_paused: false }
    }

    fn moment(us: u64) -> Moment {
        Moment { mono_us: us, wall_us: 1_000_000 + us }
    }

    #[test]
    fn a_lease_runs_from_the_question_and_ends_by_itself() {
        let known = Known::default();
        assert_eq!(known.at(moment(0)), None);
        assert!(known.learn(control(Phase::DualWrite, 2), moment(10), LEASE));
        assert_eq!(known.at(moment(109)), Some(control(Phase::DualWrite, 2)));
        assert_eq!(known.at(moment(110)), None);
        assert_eq!(known.epoch(), Some(Epoch(2)));
        assert!(!known.learn(control(Phase::DualWrite, 2), moment(60), LEASE));
        assert!(known.at(moment(159)).is_some() && known.at(moment(160)).is_none());
        known.forget();
        assert_eq!((known.at(moment(70)), known.epoch()), (None, None));
    }

    #[test]
    fn a_machine_that_slept_goes_by_its_wall_clock() {
        let known = Known::default();
        known.learn(control(Phase::DualWrite, 2), moment(10), LEASE);
        assert_eq!(known.at(Moment { mono_us: 20, wall_us: 1_000_110 }), None);
    }

    #[test]
    fn a_wall_clock_that_is_set_lengthens_no_lease() {
        let known = Known::default();
        known.learn(control(Phase::DualWrite, 2), Moment { mono_us: 10, wall_us: 1_000_010 }, LEASE);
        for wall_us in [0, 500_000, 1_000_010] {
            assert!(known.at(Moment { mono_us: 109, wall_us }).is_some());
            assert_eq!(
                known.at(Moment { mono_us: 110, wall_us }),
                None,
                "the monotonic clock has come to its end"
            );
        }
    }

    #[test]
    fn only_a_renewal_extends_the_lease_and_a_late_one_brings_no_old_phase_back() {
        let known = Known::default();
        known.learn(control(Phase::DualWrite, 2), moment(10), LEASE);
        assert!(
            known.learn(control(Phase::HybridRead, 3), moment(50), None),
            "I6: a write has seen the next phase"
        );
        assert_eq!(known.at(moment(109)), Some(control(Phase::HybridRead, 3)));
        assert_eq!(known.at(moment(110)), None, "and that was no renewal");
        assert!(
            !known.learn(control(Phase::DualWrite, 2), moment(40), LEASE),
            "asked before, answered after"
        );
        assert_eq!(known.at(moment(139)), Some(control(Phase::HybridRead, 3)));
        assert_eq!(known.at(moment(140)), None);
        let nothing = Known::default();
        nothing.learn(control(Phase::HybridRead, 3), moment(50), None);
        assert_eq!(nothing.at(moment(51)), None, "I6: an instance that is not registered serves nothing");
    }

    #[test]
    fn an_epoch_is_acknowledged_when_no_write_of_an_older_one_is_under_way() {
        let known = Known::default();
        known.learn(control(Phase::DynamoOnly, 5), moment(0), LEASE);
        assert!(known.enter(Epoch(5)));
        known.learn(control(Phase::DynamoOnly, 6), moment(1), LEASE);
        assert!(!known.enter(Epoch(5)), "no write begins under an epoch that is over");
        assert!(known.enter(Epoch(6)));
        assert_eq!(known.acknowledgeable(), Some(Epoch(5)), "I7: the pause waits for it");
        known.leave(Epoch(5));
        assert_eq!(known.acknowledgeable(), Some(Epoch(6)));
        let lease = known.lease();
        known.forget();
        assert_ne!(known.lease(), lease);
    }

    #[test]
    fn readers_never_see_half_of_a_change() {
        let known = Known::default();
        known.learn(control(Phase::PostgresOnly, 4), moment(0), LEASE);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for epoch in 5..40_000 {
                    let phase = Phase::ALL[usize::try_from(epoch % 4).expect("small")];
                    known.learn(control(phase, epoch), moment(0), LEASE);
                }
            });
            for _ in 0..40_000 {
                let seen = known.at(moment(1)).expect("known all the time");
                assert_eq!(
                    seen,
                    control(Phase::ALL[usize::try_from(seen.epoch.0 % 4).expect("small")], seen.epoch.0)
                );
            }
        });
    }
}
