//! A fixed number of operations a second, and no more.

use std::num::NonZeroU32;
use std::time::Duration;

/// Between two looks at the clock at high rates; at rates below 100 a second the pause between two operations
/// is longer.
const LOOK: Duration = Duration::from_millis(10);

/// A rate limiter that is told the time.
#[derive(Clone, Debug)]
pub struct Pace {
    per_second: f64,
    earned: f64,
}

impl Pace {
    /// This many a second.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second: per_second.get().into(), earned: 0.0 }
    }

    /// Returns how often to ask.
    pub fn period(&self) -> Duration {
        LOOK.max(Duration::from_secs_f64(1.0 / self.per_second))
    }

    /// Returns how many operations are due, `elapsed` after the last time it was asked. What was missed while
    /// the source was away is made up for half a second at most: a writer that comes back does not fall over
    /// its source.
    pub fn due(&mut self, elapsed: Duration) -> u32 {
        let earned_max = (self.per_second / 2.0).max(1.0);
        self.earned = (self.earned + self.per_second * elapsed.as_secs_f64()).min(earned_max);
        let due = (self.earned + 1e-6).floor();
        self.earned -= due;
        due as u32
    }
}
