//! Write units that all workers share: each takes a block, and waits until it may spend it.

use std::time::Duration;

use lockstep_core::{Doing, Result};

use super::Source;

/// How much of what was not spent a worker that comes late may still use.
const SAVED_UP: &str = "100 milliseconds";

impl Source {
    /// Takes `units` of a budget of `per_s` units a second, and says how long to wait before they are spent.
    ///
    /// One row has the moment until which everything that was taken reaches. Each block moves it on by what
    /// it takes at the rate, so all of them together stay below it, whatever a worker does: one that dies has
    /// taken a block in vain, and none was spent twice.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// The block may have been taken, and is then not spent.
    pub async fn take_units(&self, units: f64, per_s: f64) -> Result<Duration> {
        let seconds = units / per_s.max(f64::MIN_POSITIVE);
        let wait_s: f64 = sqlx::query_scalar(
            "UPDATE lockstep.budget
             SET spent_until = greatest(spent_until, pg_catalog.clock_timestamp() - $2::interval)
                 + $1::float8 * interval '1 second'
             RETURNING extract(epoch FROM spent_until - pg_catalog.clock_timestamp())::float8",
        )
        .bind(seconds)
        .bind(SAVED_UP)
        .fetch_one(self.pool())
        .await
        .doing("taking write units of the budget")?;
        Ok(Duration::try_from_secs_f64(wait_s - seconds).unwrap_or_default())
    }
}
