//! A token bucket: a number of write units a second, with a second's worth in reserve.

use tokio::time::Instant;

/// Starts full, as a table that was idle does. Time is passed in, so the decision is pure.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    units: f64,
    filled_at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(per_second: u32) -> Self {
        Bucket { per_second: f64::from(per_second), units: f64::from(per_second), filled_at: None }
    }

    /// Takes as many of `items`, at `cost` units each, as there are units for, and says how many that was.
    pub(super) fn take(&mut self, items: usize, cost: usize, now: Instant) -> usize {
        if let Some(then) = self.filled_at {
            let earned = now.saturating_duration_since(then).as_secs_f64() * self.per_second;
            self.units = (self.units + earned).min(self.per_second);
        }
        self.filled_at = Some(now);
        let mut taken = 0;
        // A hundred items at most in one call, so counting down is cheap, and exact where a division would
        // need casts.
        let cost = f64::from(u32::try_from(cost).unwrap_or(u32::MAX));
        while taken < items && self.units >= cost {
            self.units -= cost;
            taken += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bucket_gives_its_reserve_then_its_rate_and_never_saves_more_than_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10);
        assert_eq!(bucket.take(25, 1, start), 10);
        assert_eq!(bucket.take(25, 1, start), 0);
        assert_eq!(bucket.take(25, 1, start + Duration::from_millis(500)), 5);
        assert_eq!(bucket.take(25, 1, start + Duration::from_secs(60)), 10);
        assert_eq!(
            bucket.take(1, 20, start + Duration::from_secs(120)),
            0,
            "a transaction too large never fits"
        );
    }
}
