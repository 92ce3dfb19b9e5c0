//! A rate that is kept on average: what was taken is paid for by waiting before the next request.
//!
//! What a request costs is known once it is answered, so it is paid for afterwards. Those in flight at once
//! may together take more than the rate for a moment; the next request waits for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    units_per_s: Option<f64>,
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(units_per_s: Option<f64>) -> Self {
        Self { units_per_s: units_per_s.filter(|units| *units > 0.0), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until everything taken so far is paid for.
    pub(crate) async fn wait(&self) {
        let free_at = *self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if self.units_per_s.is_some() {
            tokio::time::sleep_until(free_at).await;
        }
    }

    /// Notes what a request took.
    pub(crate) fn pay(&self, units: f64) {
        let Some(units_per_s) = self.units_per_s else { return };
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = next(*free_at, Instant::now(), units, units_per_s);
    }
}

/// When the next request may go. Time that no request used is not saved up.
fn next(free_at: Instant, now: Instant, units: f64, units_per_s: f64) -> Instant {
    free_at.max(now) + Duration::try_from_secs_f64(units / units_per_s).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_paid_for_and_idle_time_is_not_saved() {
        let begun = Instant::now();
        let at = |s: f64| begun + Duration::from_secs_f64(s);
        // Two that were in flight together are paid for one after the other.
        let free_at = next(next(at(0.0), at(1.0), 50.0, 100.0), at(1.0), 50.0, 100.0);
        assert_eq!(free_at, at(2.0));
        assert_eq!(next(free_at, at(10.0), 100.0, 100.0), at(11.0));
        assert_eq!(next(free_at, at(1.5), 0.0, 100.0), free_at);
    }
}
