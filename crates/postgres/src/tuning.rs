//! Settings that a running command picks up within a second (R11).

use lockstep_core::{Doing, Result};

use super::Source;

/// What can be changed while a backfill or a relay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Tuning {
    /// Most write units a second; `None` leaves it to the configuration.
    pub write_units_per_s_max: Option<i64>,
    /// Whether an operator has paused the backfill.
    #[sqlx(default)]
    pub paused: bool,
}

impl Source {
    /// The settings in force. What `set` has set goes before what `tune` has.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn tuning(&self) -> Result<Tuning> {
        sqlx::query_as(
            "WITH counts AS (SELECT name, value FROM lockstep.settings WHERE until IS NULL OR until > pg_catalog.clock_timestamp())
             SELECT coalesce((SELECT (value #>> '{}')::bigint FROM counts
                     WHERE name = 'write_units_per_s_max' AND pg_catalog.jsonb_typeof(value) = 'number'), t.write_units_per_s_max)
                     AS write_units_per_s_max,
                 EXISTS (SELECT FROM counts WHERE name = 'pause.backfill' AND value = 'true') AS paused
             FROM lockstep.tuning t",
        )
            .fetch_one(self.pool())
            .await
            .doing("reading the tuning")
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn tune(&self, tuning: Tuning) -> Result<()> {
        sqlx::query(
            "UPDATE lockstep.tuning SET write_units_per_s_max = $1,
            changed_at = pg_catalog.clock_timestamp()",
        )
        .bind(tuning.write_units_per_s_max)
        .execute(self.pool())
        .await
        .doing("changing the tuning")?;
        Ok(())
    }
}
