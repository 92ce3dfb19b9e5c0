//! Settings that a running command picks up within a second (R11).

use lockstep_core::{Doing, Result};

use super::Source;
use super::settings::IN_FORCE;
use crate::sql;

/// Settings that can be changed while a backfill, a relay or a comparison runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, sqlx_macros::FromRow)]
pub struct Tuning {
    /// Most write units a second of backfill and relay together; `None` leaves it to the configuration.
    pub write_units_per_s_max: Option<i64>,
    /// Most write units a second of each relay; `None` for no bound.
    #[sqlx(default)]
    pub relay_write_units_per_s_max: Option<i64>,
    /// Most read units a second of each comparison; `None` leaves it to the configuration.
    #[sqlx(default)]
    pub validate_read_units_per_s_max: Option<i64>,
    /// Sessions at work in the source above which the initial load moves more slowly; `None` for a part of
    /// those that it takes.
    #[sqlx(default)]
    pub source_active_sessions_max: Option<i64>,
    /// Megabytes that a replica may be behind before the initial load moves more slowly.
    #[sqlx(default)]
    pub source_replica_lag_mb_max: Option<i64>,
    /// Megabytes of write-ahead log a second above which the initial load moves more slowly.
    #[sqlx(default)]
    pub source_wal_mb_per_s_max: Option<i64>,
    /// Whether an operator has paused the backfill.
    #[sqlx(default)]
    pub paused: bool,
    /// Whether an operator has paused relays.
    #[sqlx(default)]
    pub relay_paused: bool,
    /// Whether an operator has paused reverse feeds.
    #[sqlx(default)]
    pub feed_paused: bool,
    /// Whether an operator has paused comparisons.
    #[sqlx(default)]
    pub validation_paused: bool,
    /// Dollars of write units after which nothing is copied; `None` leaves it to the configuration.
    #[sqlx(default)]
    pub spend_cap_usd: Option<f64>,
}

impl Source {
    /// Returns the settings in force. A value that holds for every process goes before one that was turned
    /// for what is running.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn tuning(&self) -> Result<Tuning> {
        let sql = format!(
            "WITH counts AS (SELECT name, value FROM {IN_FORCE} s),
                  paused AS (SELECT name FROM counts WHERE name LIKE 'pause.%' AND value = 'true'),
                  whole AS (SELECT name, (value #>> '{{}}')::bigint AS value FROM counts WHERE pg_catalog.jsonb_typeof(value) = 'number'
                      AND name IN ('write_units_per_s_max', 'relay_write_units_per_s_max', 'validate_read_units_per_s_max',
                          'source_active_sessions_max', 'source_replica_lag_mb_max',
                          'source_wal_mb_per_s_max'))
             SELECT coalesce((SELECT value FROM whole WHERE name = 'write_units_per_s_max'), t.write_units_per_s_max)
                     AS write_units_per_s_max,
                 (SELECT value FROM whole WHERE name = 'relay_write_units_per_s_max') AS relay_write_units_per_s_max,
                 (SELECT value FROM whole WHERE name = 'validate_read_units_per_s_max') AS validate_read_units_per_s_max,
                 (SELECT value FROM whole WHERE name = 'source_active_sessions_max') AS source_active_sessions_max,
                 (SELECT value FROM whole WHERE name = 'source_replica_lag_mb_max') AS source_replica_lag_mb_max,
                 (SELECT value FROM whole WHERE name = 'source_wal_mb_per_s_max') AS source_wal_mb_per_s_max,
                 EXISTS (SELECT FROM paused WHERE name = 'pause.backfill') AS paused,
                 EXISTS (SELECT FROM paused WHERE name = 'pause.relay') AS relay_paused,
                 EXISTS (SELECT FROM paused WHERE name = 'pause.reverse-feed') AS feed_paused,
                 EXISTS (SELECT FROM paused WHERE name = 'pause.validation') AS validation_paused,
                 (SELECT (value #>> '{{}}')::float8 FROM counts
                  WHERE pg_catalog.jsonb_typeof(value) = 'number' AND name = 'spend_cap_usd') AS spend_cap_usd
             FROM lockstep.tuning t"
        );
        sql::query_as(sqlx::AssertSqlSafe(sql)).fetch_one(self.pool()).await.doing("reading the tuning")
    }

    /// Changes the settings.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn tune(&self, tuning: Tuning) -> Result<()> {
        sql::query(
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
