//! The phase that an instance knows, and until when it may go by it: read by every operation, written once a
//! second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use lockstep_core::{Control, Epoch};

use super::moment::Moment;

/// The phase as this instance knows it. Each operation reads it once or twice. A sequence lock made of
/// atomics reads it in 3 ns where this takes 6 (two threads at once: 7 and 14); the request beside it takes a
/// hundred microseconds.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// `None` when nothing is known.
    fact: RwLock<Option<Fact>>,
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
    /// Returns the phase while the lease is valid at `now`.
    pub(crate) fn at(&self, now: Moment) -> Option<Control> {
        self.read().filter(|fact| now.is_before(fact.until)).map(|fact| fact.control)
    }

    /// Returns the epoch that was heard of last, whether or not the lease is valid.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.read().map(|fact| fact.control.epoch)
    }

    /// Returns the control record that was heard of last, whether or not the lease is valid.
    pub(crate) fn last(&self) -> Option<Control> {
        self.read().map(|fact| fact.control)
    }

    /// Returns how long the lease is valid from `now`; `None` when it is over.
    pub(crate) fn left(&self, now: Moment) -> Option<Duration> {
        self.read().and_then(|fact| now.until(fact.until))
    }

    /// Returns the number of this lease; see [`Known::forget`].
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

    /// Ends a counted write.
    pub(crate) fn leave(&self, epoch: Epoch) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writes) = under_way.get_mut(&epoch) {
            *writes -= 1;
            if *writes == 0 {
                under_way.remove(&epoch);
            }
        }
    }

    /// Returns the epoch that may be acknowledged: nothing of an older one is under way.
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
        let mut known = self.write();
        let before = *known;
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
        *known = Some(fact);
        before.is_none_or(|before| before.control != fact.control)
    }

    /// Forgets the phase and ends the lease.
    pub(crate) fn forget(&self) {
        let mut known = self.write();
        self.leases.fetch_add(1, SeqCst);
        *known = None;
    }

    fn read(&self) -> Option<Fact> {
        *self.fact.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Fact>> {
        self.fact.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use lockstep_core::Phase;

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
