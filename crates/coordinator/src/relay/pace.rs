//! Pace at which a relay writes: what operators allow, and what that leaves for the initial load (R11).
//!
//! Backfill, relay and repair, which delivers by the relay, have one budget. Changes are not kept waiting
//! for it, since readers see how old they are: what they cost is taken off it, and the backfill gets the
//! rest. A bound of the relay's own is a setting beside it. A target that throttles is waited for key by
//! key, with requests in flight of its table's own: one rate for all, found as the backfill finds it,
//! would have a table that throttles hold up every other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::{Error as StoreError, Item, Kind};
use lockstep_dynamo::ReadAt;
use lockstep_postgres::{Source, TableBinding};

use super::Run;
use crate::rate::Rate;

/// Time between two readings of settings while something is delivered.
const TUNED_EVERY: Duration = Duration::from_secs(1);

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
    tuned_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(is_bounded: bool) -> Self {
        Self {
            is_bounded,
            rate: Rate::new(None),
            budget_per_s: AtomicU64::new(0),
            spent_milliunits: AtomicU64::new(0),
            tuned_at: Mutex::default(),
        }
    }

    /// Takes the settings over, at most once a second. While they cannot be read, those of before hold.
    pub(super) async fn follow(&self, run: Run<'_>) {
        if !self.is_bounded {
            return;
        }
        {
            let mut at = self.tuned_at.lock().unwrap_or_else(PoisonError::into_inner);
            if at.is_some_and(|at| at.elapsed() < TUNED_EVERY) {
                return;
            }
            *at = Some(Instant::now());
        }
        let Ok(tuning) = run.migration.source.tuning().await else { return };
        // A row of zero was made by hand: a setting is at least one.
        let whole = |units: Option<i64>| units.and_then(|units| u64::try_from(units).ok()).filter(|u| *u > 0);
        self.rate.set_budget(whole(tuning.relay_write_units_per_s_max));
        let shared =
            whole(tuning.write_units_per_s_max).or(run.migration.options.backfill.write_units_per_s_max);
        self.budget_per_s.store(shared.unwrap_or(0), Relaxed);
        let why = self.rate.why();
        run.progress.tables.iter().for_each(|table| table.slow(why.clone()));
    }

    /// Waits until these items may be written, and goes by the settings meanwhile: one that was mistyped must
    /// not hold up for hours what waits for it, once it is taken back.
    ///
    /// # Errors
    /// [`Kind::Fenced`] where what was read then may not leave any more: it would be refused when it is sent,
    /// and its units are those of a key that may; or where the share that it is of is over.
    /// [`Kind::Unavailable`] where the relay is told to stop.
    pub(super) async fn acquire(
        &self,
        run: Run<'_>,
        read_at: ReadAt,
        binding: &TableBinding,
        items: &[Item],
    ) -> Result<(), StoreError> {
        if !self.is_bounded {
            return Ok(());
        }
        if !read_at.may_leave() {
            return Err(StoreError::target(Kind::Fenced, "delivering", "it was read too long ago"));
        }
        if !run.shares.may_send() {
            return Err(StoreError::target(Kind::Fenced, "delivering", "another relay has its key by now"));
        }
        let indexes = binding.table.target().indexes;
        let units: u64 = items.iter().map(|item| item.write_units_with(indexes) as u64).sum();
        let mut paid = std::pin::pin!(self.rate.acquire(units as f64));
        loop {
            tokio::select! {
                biased;
                () = run.cancel.cancelled() => {
                    let message = "it waited for its turn under a rate";
                    return Err(StoreError::target(Kind::Unavailable, "delivering, and told to stop", message));
                }
                () = &mut paid => break,
                () = tokio::time::sleep(TUNED_EVERY) => self.follow(run).await,
            }
        }
        self.spent_milliunits.fetch_add(units.saturating_mul(1_000), Relaxed);
        Ok(())
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
