//! Settings that a running command picks up within a second (R11).

use lockstep_core::{Doing, Result};

use super::Source;

/// What can be changed while a backfill or a relay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Tuning {
    /// Most write units a second; `None` leaves it to the configuration.
    pub write_units_per_s_max: Option<i64>,
}

impl Source {
    /// The settings in force.
    ///
    /// # Errors
    /// The driver's.
    pub async fn tuning(&self) -> Result<Tuning> {
        sqlx::query_as("SELECT write_units_per_s_max FROM lockstep.tuning")
            .fetch_one(self.pool())
            .await
            .doing("reading the tuning")
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// The driver's.
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
