//! A moment by both clocks of this machine.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

/// Point from which the monotonic clock is read; any fixed one will do.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in microseconds.
///
/// By both clocks, because the monotonic one of Linux stands still while the machine is suspended: 1. An
/// instance has nine seconds of its lease left. 2. The machine sleeps for an hour, and two steps are taken. 3.
/// It wakes with nine seconds left. The wall clock knows better; set forward by an operator, it only
/// costs a renewal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(super) mono_us: u64,
    pub(super) wall_us: u64,
}

impl Moment {
    /// A moment that is long over.
    pub(crate) const LONG_AGO: Self = Self { mono_us: 0, wall_us: 0 };

    /// Now.
    pub(crate) fn now() -> Self {
        Self::of(Instant::now())
    }

    /// Returns the moment of an [`Instant`] of a short while ago.
    pub(crate) fn of(instant: Instant) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            mono_us: us(instant.saturating_duration_since(*ORIGIN)),
            wall_us: us(since_epoch).saturating_sub(us(instant.elapsed())),
        }
    }

    /// So much later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        let us = us(duration);
        Self { mono_us: self.mono_us.saturating_add(us), wall_us: self.wall_us.saturating_add(us) }
    }

    /// Returns how long it is from here to `end`, by the clock that is further on; nothing when one of them
    /// is there.
    pub(super) fn until(self, end: Self) -> Option<Duration> {
        let left = end.mono_us.saturating_sub(self.mono_us).min(end.wall_us.saturating_sub(self.wall_us));
        (left > 0).then(|| Duration::from_micros(left))
    }

    /// Tells whether both clocks say that this is before `end`.
    pub(crate) fn is_before(self, end: Self) -> bool {
        self.mono_us < end.mono_us && self.wall_us < end.wall_us
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
