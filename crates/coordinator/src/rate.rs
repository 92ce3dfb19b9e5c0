//! Rate at which the target may be written: a budget, and closed-loop control below it (R11).
//!
//! Additive or proportional control would need to know the target's capacity; halving on a throttle and
//! growing in calm finds it, as TCP does. Without a throttle there is no ceiling at all, so a target that
//! keeps up is never held back.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lanes::{CALM, HALVE_PAUSE, Lane, Lanes};

/// Growth after each calm period.
const GROWTH: f64 = 1.25;
/// An answer slower than this counts as a throttle. DynamoDB answers a batch in tens of milliseconds.
const LATENCY_MAX: Duration = Duration::from_secs(3);
/// Time between two looks of a task that waits for a pause to end.
const PAUSED: Duration = Duration::from_millis(200);
/// A ceiling never falls below one batch a second.
const CEILING_MIN: f64 = 25.0;

/// Shared by every writer of a run.
#[derive(Debug)]
pub(crate) struct Rate {
    state: Mutex<State>,
    lanes: Lanes,
}

/// Requests in flight at once where the caller bounds them by other means.
const UNBOUNDED: usize = 1 << 20;

#[derive(Debug)]
struct State {
    budget: Option<f64>,
    ceiling: Option<f64>,
    tokens: f64,
    refilled_at: Instant,
    changed_at: Instant,
    window_at: Instant,
    window_units: f64,
    rate: f64,
}

impl Rate {
    pub(crate) fn new(budget: Option<u64>) -> Self {
        let now = Instant::now();
        let state = State {
            budget: budget.map(|units| units as f64),
            ceiling: None,
            tokens: 0.0,
            refilled_at: now,
            changed_at: now,
            window_at: now,
            window_units: 0.0,
            rate: 0.0,
        };
        Self { state: Mutex::new(state), lanes: Lanes::new(UNBOUNDED) }
    }

    /// With at most that number of requests in flight at once.
    pub(crate) fn within(self, requests_in_flight: usize) -> Self {
        Self { lanes: Lanes::new(requests_in_flight), ..self }
    }

    /// Waits until one more request may be in flight.
    pub(crate) async fn lane(&self) -> Lane<'_> {
        self.lanes.lane().await
    }

    /// Returns what holds it back, in words; `None` while nothing does.
    pub(crate) fn why(&self) -> Option<String> {
        let (budget, ceiling) = {
            let state = self.lock();
            (state.budget, state.ceiling)
        };
        let (allowed, most) = self.lanes.allowed();
        let mut parts = Vec::new();
        match (budget, ceiling) {
            (Some(budget), None) => parts.push(format!("the budget of {budget:.0} write units a second")),
            (_, Some(_)) => {
                let limit = self.ceiling().unwrap_or_default();
                parts.push(format!(
                    "DynamoDB asks for less, or answers slowly: {limit:.0} write units a second"
                ));
            }
            (None, None) => {}
        }
        if allowed < most {
            parts.push(format!("{allowed} of {most} requests at once"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Changes the budget while everything runs.
    pub(crate) fn set_budget(&self, budget: Option<u64>) {
        self.lock().budget = budget.map(|units| units as f64);
    }

    /// Write units a second allowed now; `None` for no limit.
    pub(crate) fn ceiling(&self) -> Option<f64> {
        self.lock().limit()
    }

    /// Waits until `units` may be written.
    pub(crate) async fn acquire(&self, units: f64) {
        loop {
            let Some(wait) = self.lock().take(units, Instant::now()) else { return };
            tokio::time::sleep(wait).await;
        }
    }

    /// The target asked to slow down.
    pub(crate) fn throttled(&self) {
        self.lock().halve(Instant::now());
        self.lanes.halve();
    }

    /// The source shows strain: fewer requests at once write less, and so less is read.
    pub(crate) fn strained(&self) {
        self.lanes.halve();
    }

    /// A request that was sent at `sent_at` has been answered.
    ///
    /// Slow answers to requests from before the last change say nothing of the new rate. 1. Sixteen requests
    /// are in flight, and the target slows down. 2. The first slow answer halves the rate. 3. Fifteen more
    /// slow answers arrive over the next seconds; halving for each would end at the floor, whatever the
    /// target can take.
    pub(crate) fn answered(&self, sent_at: Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        if now - sent_at <= LATENCY_MAX {
            state.calm(now);
            self.lanes.calm();
        } else if sent_at >= state.changed_at || state.ceiling.is_none() {
            state.halve(now);
            self.lanes.halve();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding it")
    }
}

impl State {
    fn limit(&self) -> Option<f64> {
        match (self.budget, self.ceiling) {
            (Some(budget), Some(ceiling)) => Some(budget.min(ceiling)),
            (budget, ceiling) => budget.or(ceiling),
        }
    }

    /// Takes the units, or says how long to wait.
    fn take(&mut self, units: f64, now: Instant) -> Option<Duration> {
        let window_s = (now - self.window_at).as_secs_f64();
        if window_s >= 0.5 {
            self.rate = self.window_units / window_s;
            (self.window_at, self.window_units) = (now, 0.0);
        }
        if let Some(limit) = self.limit() {
            if limit <= 0.0 {
                // Paused: nothing is saved up for when it goes on.
                (self.tokens, self.refilled_at) = (self.tokens.min(0.0), now);
                return Some(PAUSED);
            }
            // A tenth of a second of saved-up budget: enough to keep requests in flight, too little for a
            // burst that throttles.
            let burst = (limit / 10.0).max(CEILING_MIN);
            self.tokens = (self.tokens + (now - self.refilled_at).as_secs_f64() * limit).min(burst);
            self.refilled_at = now;
            if self.tokens <= 0.0 {
                return Some(Duration::from_secs_f64((-self.tokens / limit).clamp(0.002, 1.0)));
            }
            // May go below zero: a batch larger than the burst must pass too, and is paid for afterwards.
            self.tokens -= units;
        } else {
            self.refilled_at = now;
        }
        self.window_units += units;
        None
    }

    fn halve(&mut self, now: Instant) {
        if now - self.changed_at < HALVE_PAUSE && self.ceiling.is_some() {
            return;
        }
        let current = self
            .limit()
            .unwrap_or(f64::INFINITY)
            .min(self.rate.max(self.window_units).max(2.0 * CEILING_MIN));
        self.ceiling = Some((current / 2.0).max(CEILING_MIN));
        self.tokens = self.tokens.min(0.0);
        self.changed_at = now;
    }

    fn calm(&mut self, now: Instant) {
        let Some(ceiling) = self.ceiling else { return };
        if now - self.changed_at < CALM {
            return;
        }
        self.changed_at = now;
        let grown = ceiling * GROWTH;
        // Far above what is being used, the ceiling means nothing any more.
        let useless =
            grown > 4.0 * self.rate.max(CEILING_MIN) || self.budget.is_some_and(|budget| grown > budget);
        self.ceiling = if useless { None } else { Some(grown) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_budget_or_throttle_nothing_waits() {
        let rate = Rate::new(None);
        let start = Instant::now();
        for _ in 0..10_000 {
            rate.acquire(25.0).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_nothing_is_a_pause_until_there_is_one_again() {
        let rate = Rate::new(Some(0));
        assert!(tokio::time::timeout(Duration::from_secs(60), rate.acquire(1.0)).await.is_err());
        rate.set_budget(Some(1_000));
        assert!(tokio::time::timeout(Duration::from_secs(2), rate.acquire(1.0)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_kept_over_time() {
        let rate = Rate::new(Some(1_000));
        let start = Instant::now();
        for _ in 0..400 {
            rate.acquire(25.0).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((9.0..11.0).contains(&seconds), "10,000 units at 1,000 a second took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answers_to_requests_from_before_the_change_do_not_halve_again() {
        let rate = Rate::new(Some(1_000));
        // Traffic of 800 units a second, so that there is something to halve.
        for _ in 0..64 {
            rate.acquire(25.0).await;
            tokio::time::advance(Duration::from_micros(31_250)).await;
        }
        let sent_at = Instant::now();
        tokio::time::advance(LATENCY_MAX * 2).await;
        for _ in 0..16 {
            rate.answered(sent_at);
            tokio::time::advance(HALVE_PAUSE).await;
        }
        let ceiling = rate.ceiling().expect("a ceiling");
        assert!((300.0..=500.0).contains(&ceiling), "halved once, not to the floor: {ceiling}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_what_holds_it_back_and_nothing_while_nothing_does() {
        let rate = Rate::new(None).within(16);
        assert_eq!(rate.why(), None);
        rate.set_budget(Some(400));
        assert_eq!(rate.why().as_deref(), Some("the budget of 400 write units a second"));
        rate.strained();
        assert!(rate.why().is_some_and(|why| why.ends_with("8 of 16 requests at once")));
        rate.throttled();
        assert!(rate.why().is_some_and(|why| why.starts_with("DynamoDB asks for less")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_halves_and_calm_raises_and_lifts() {
        let rate = Rate::new(Some(1_000));
        rate.throttled();
        let halved = rate.ceiling().expect("a ceiling");
        assert!(halved <= 500.0, "{halved}");
        rate.throttled();
        assert_eq!(rate.ceiling(), Some(halved), "one burst of throttles halves once");
        for _ in 0..60 {
            tokio::time::advance(CALM).await;
            rate.acquire(25.0).await;
            rate.answered(Instant::now());
        }
        assert_eq!(rate.ceiling(), Some(1_000.0), "the budget is the only limit again");
    }
}
