//! A rate that is kept on average: what was taken is paid for by waiting before the next request.
//!
//! What a request costs is known once it is answered, so it is paid for afterwards. Those in flight at once
//! may together take more than the rate for a moment; the next request waits for all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Rate that was configured for the run.
    configured: Option<f64>,
    state: Mutex<State>,
    /// Held while the setting is looked at: 1. Operators have paused comparisons. 2. One begins with
    /// several requests at once, and the first of them asks for the setting. 3. The others would go before
    /// the answer.
    pub(crate) asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    units_per_s: Option<f64>,
    free_at: Instant,
    followed_at: Option<Instant>,
    /// Readings that keep to the rate together: one for each process and table.
    sharers: u32,
    paused: bool,
}

/// Interval at which an operator's setting is looked at.
const FOLLOWED_EVERY: Duration = Duration::from_secs(1);

impl Pace {
    pub(crate) fn new(units_per_s: Option<f64>) -> Self {
        let configured = units_per_s.filter(|units| *units > 0.0);
        let state = State {
            units_per_s: configured,
            free_at: Instant::now(),
            followed_at: None,
            sharers: 1,
            paused: false,
        };
        Self { configured, state: Mutex::new(state), asking: tokio::sync::Mutex::default() }
    }

    /// Tells whether it is time to look at the setting again; said to one caller.
    pub(crate) fn is_due(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.followed_at.is_none_or(|at| at.elapsed() >= FOLLOWED_EVERY);
        if is_due {
            state.followed_at = Some(Instant::now());
        }
        is_due
    }

    /// Takes over what an operator has set; without a setting, what was configured counts.
    pub(crate) fn set(&self, units_per_s: Option<f64>) {
        let mut state = self.lock();
        let next = units_per_s.filter(|units| *units > 0.0).or(self.configured);
        if next != state.units_per_s {
            // The debt of the old rate is capped at a second: a rate that was mistyped would have the
            // comparison wait for hours after it is taken back.
            state.free_at = state.free_at.min(Instant::now() + FOLLOWED_EVERY);
        }
        state.units_per_s = next;
    }

    /// Takes over whether operators have paused it.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
    }

    /// Returns another one at the rate that was configured for this one.
    pub(crate) fn like(&self) -> Self {
        Self::new(self.configured)
    }

    /// Tells whether there is a rate to keep to.
    pub(crate) fn is_bound(&self) -> bool {
        self.lock().units_per_s.is_some()
    }

    /// Shares the rate with others: of what all may take, this reading takes its part.
    pub(crate) fn share(&self, sharers: u32) {
        self.lock().sharers = sharers.max(1);
    }

    /// Waits until everything taken so far is paid for, a second at most; says whether it is.
    pub(crate) async fn wait(&self) -> bool {
        let (units_per_s, free_at, paused) = {
            let state = self.lock();
            (state.units_per_s, state.free_at, state.paused)
        };
        if paused {
            tokio::time::sleep(FOLLOWED_EVERY).await;
            return false;
        }
        let until = free_at.min(Instant::now() + FOLLOWED_EVERY);
        if units_per_s.is_some() {
            tokio::time::sleep_until(until).await;
        }
        units_per_s.is_none() || until == free_at
    }

    /// Notes what a request took.
    pub(crate) fn pay(&self, units: f64) {
        let mut state = self.lock();
        let Some(units_per_s) = state.units_per_s else { return };
        let units_per_s = units_per_s / f64::from(state.sharers);
        state.free_at = next(state.free_at, Instant::now(), units, units_per_s);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the next request may go. Time that no request used is not saved up.
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

    #[tokio::test(start_paused = true)]
    async fn while_it_is_paused_nothing_is_read_and_the_setting_is_looked_at_again() {
        let pace = Pace::new(None);
        pace.pause(true);
        let begun = Instant::now();
        assert!(!pace.wait().await, "the caller looks at the setting, and waits again");
        assert_eq!(begun.elapsed(), FOLLOWED_EVERY);
        pace.pause(false);
        assert!(pace.wait().await);
        assert_eq!(begun.elapsed(), FOLLOWED_EVERY, "it goes on at once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_operators_rate_goes_before_the_configured_one_until_it_is_taken_back() {
        let pace = Pace::new(Some(100.0));
        assert!(pace.is_due() && !pace.is_due(), "one of all looks");
        let took = async |units: f64| {
            let begun = Instant::now();
            pace.pay(units);
            while !pace.wait().await {}
            begun.elapsed().as_secs_f64().round()
        };
        assert_eq!(took(200.0).await, 2.0);
        pace.set(Some(10.0));
        assert_eq!(took(200.0).await, 20.0);
        pace.set(None);
        assert_eq!(took(200.0).await, 2.0);
        pace.share(4);
        assert_eq!(took(200.0).await, 8.0, "of four readings each takes a quarter");
        let other = pace.like();
        assert!(other.is_bound() && !Pace::new(Some(0.0)).is_bound());
        other.share(2);
        assert_eq!(took(200.0).await, 8.0, "the share of another table's reading is its own");
        pace.share(1);
        pace.set(Some(1.0));
        pace.pay(10_000.0);
        assert!(!pace.wait().await, "the setting is looked at meanwhile");
        pace.set(None);
        assert_eq!(took(0.0).await, 1.0, "what was mistyped is not slept out");
        assert!(pace.is_due(), "a second has passed");
    }
}
