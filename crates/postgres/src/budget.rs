//! Write units that all workers share: each takes a block, and waits until it may spend it.

use std::time::Duration;

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

/// Unspent time that a late worker may still use.
const SAVED_UP: &str = "100 milliseconds";
/// Longest wait for units that were granted at another rate. Workers with different rates take turns; if each
/// began again, none would ever wait.
const OF_ANOTHER_RATE: &str = "1 second";

impl Source {
    /// Takes `units` of a budget of `per_s` units a second, and says how long to wait before they are spent.
    ///
    /// One row holds the time at which all granted units will have been spent. Each block moves that time on
    /// by its own duration at the rate, so all workers together stay below the rate. A worker that dies has
    /// taken a block in vain, and no unit was spent twice.
    ///
    /// A time far in the future would keep all workers waiting, and no worker sets it back: 1. The source's
    /// clock is set back by an hour. 2. The stored time is an hour from now. Or: 1. Fifty workers take a
    /// block each at one unit a second. 2. An operator allows 40,000. 3. The stored time is twenty minutes
    /// from now. So the stored time counts in full only at the rate, and by the clock, that it was computed
    /// with.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// The block may have been taken, and is then not spent.
    #[crate::boxed]
    pub async fn take_units(&self, units: f64, per_s: f64) -> Result<Duration> {
        let per_s = per_s.max(f64::MIN_POSITIVE);
        let seconds = units / per_s;
        // A take that has waited for another one goes by the row as that left it, and reads the clock again.
        let wait_s: f64 = sql::query_scalar(
            "UPDATE lockstep.budget
             SET spent_until = CASE
                     WHEN taken_at > pg_catalog.clock_timestamp() + interval '1 second'
                         THEN pg_catalog.clock_timestamp()
                     WHEN per_s IS DISTINCT FROM $3::float8
                         THEN least(greatest(spent_until, pg_catalog.clock_timestamp() - $2::interval),
                             pg_catalog.clock_timestamp() + $4::interval)
                     ELSE greatest(spent_until, pg_catalog.clock_timestamp() - $2::interval)
                 END + $1::float8 * interval '1 second',
                 per_s = $3::float8, taken_at = pg_catalog.clock_timestamp()
             RETURNING extract(epoch FROM spent_until - pg_catalog.clock_timestamp())::float8",
        )
        .bind(seconds)
        .bind(SAVED_UP)
        .bind(per_s)
        .bind(OF_ANOTHER_RATE)
        .fetch_one(self.pool())
        .await
        .doing("taking write units of the budget")?;
        Ok(Duration::try_from_secs_f64(wait_s - seconds).unwrap_or_default())
    }

    /// Takes what changes have cost off the budget, without waiting: changes go before the initial load, and
    /// what takes the next block waits for both.
    ///
    /// It reaches no further than a second ahead. 1. Changes alone cost more than the budget for an hour. 2.
    /// The initial load would then wait for an hour after the last of them.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It may have been taken.
    pub async fn charge_units(&self, units: f64, per_s: f64) -> Result<()> {
        sql::query(
            "UPDATE lockstep.budget
             SET spent_until = least(greatest(spent_until, pg_catalog.clock_timestamp()) + $1::float8 * interval '1 second',
                 greatest(spent_until, pg_catalog.clock_timestamp() + $2::interval))",
        )
        .bind(units / per_s.max(f64::MIN_POSITIVE))
        .bind(OF_ANOTHER_RATE)
        .execute(self.pool())
        .await
        .doing("taking what changes have cost off the budget")
        .map(drop)
    }
}
