//! Pace at which a relay writes: what operators allow, and what that leaves for the initial load (R11).
//!
//! Backfill, relay and repair, which delivers by the relay, have one budget. Changes are not kept waiting
//! for it, since readers see how old they are: what they cost is taken off it, and the backfill gets the
//! rest. A bound of the relay's own is a setting beside it. A target that throttles is waited for key by
//! key, with requests in flight of its table's own: one rate for all, found as the backfill finds it,
//! would have a table that throttles hold up every other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_postgres::Source;

use crate::rate::Rate;

/// Time between two readings of settings while something is delivered.
pub(super) const TUNED_EVERY: Duration = Duration::from_secs(1);

/// Shared by everything that one relay sends.
#[derive(Debug)]
pub(super) struct Pace {
    /// A step waits for a relay of its own, and applications may wait for the step, so nothing holds that one
    /// back.
    is_bounded: bool,
    rate: Rate,
    /// Write units a second that all may spend; 0 without a bound.
    budget_per_s: AtomicU64,
    /// Not taken off it yet.
    spent_milliunits: AtomicU64,
    paused: AtomicBool,
    tuned_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(is_bounded: bool) -> Self {
        Self {
            is_bounded,
            rate: Rate::new(None),
            budget_per_s: AtomicU64::new(0),
            spent_milliunits: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            tuned_at: Mutex::default(),
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// Tells whether the settings are due to be read again, and if so that they are being read.
    pub(super) fn is_due(&self) -> bool {
        let mut at = self.tuned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_bounded || at.is_some_and(|at| at.elapsed() < TUNED_EVERY) {
            return false;
        }
        *at = Some(Instant::now());
        true
    }

    /// Takes over the bound of relays and the budget of all; returns why the relay is slow, if it is.
    pub(super) fn set(&self, relay_units_per_s: Option<u64>, units_per_s: Option<u64>) -> Option<String> {
        self.rate.set_budget(relay_units_per_s);
        self.budget_per_s.store(units_per_s.unwrap_or(0), Relaxed);
        self.rate.why()
    }

    /// Takes over whether operators have paused relays; one that a step waits for never reads it.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Waits until these units may be spent; without a bound of the relay's own not at all.
    pub(super) async fn wait_for(&self, units: u64) {
        self.rate.acquire(units as f64).await;
    }

    /// Counts units as spent.
    pub(super) fn spend(&self, units: u64) {
        self.spent_milliunits.fetch_add(units.saturating_mul(1_000), Relaxed);
    }

    /// Takes what was spent off the budget, where there is one. A note that does not work out leaves a bit
    /// more for the backfill.
    pub(super) async fn charge(&self, source: &Source) {
        let spent = self.spent_milliunits.swap(0, Relaxed);
        let per_s = self.budget_per_s.load(Relaxed);
        if spent > 0
            && per_s > 0
            && let Err(error) = source.charge_units(spent as f64 / 1_000.0, per_s as f64).await
        {
            tracing::debug!("could not take the cost of changes off the budget: {error}");
        }
    }
}
