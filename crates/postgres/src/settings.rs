//! Settings that hold for every process of the migration (R49): a name, a value, and until when.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};
use serde_json::Value;

use super::Source;

/// One setting.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct SettingRow {
    /// What is set.
    pub name: String,
    /// To what.
    pub value: Value,
    /// Who set it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// Until when it counts, by the source's clock; for good where it is `None`.
    pub until: Option<DateTime<Utc>>,
}

impl Source {
    /// The settings that count now.
    ///
    /// # Errors
    /// The driver's.
    pub async fn settings(&self) -> Result<Vec<SettingRow>> {
        sqlx::query_as(
            "SELECT name, value, actor, reason, until FROM lockstep.settings
             WHERE until IS NULL OR until > pg_catalog.clock_timestamp() ORDER BY name",
        )
        .fetch_all(self.pool())
        .await
        .doing("reading the settings")
    }

    /// Sets one, for good or for a while.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    pub async fn set(
        &self,
        name: &str,
        value: &Value,
        actor: &str,
        reason: Option<&str>,
        during: Option<Duration>,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO lockstep.settings AS s (name, value, actor, reason, until)
             VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp() + $5::float8 * interval '1 second')
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, actor = excluded.actor, reason = excluded.reason,
                 until = excluded.until, changed_at = pg_catalog.clock_timestamp()",
        )
        .bind(name)
        .bind(value)
        .bind(actor)
        .bind(reason)
        .bind(during.map(|during| during.as_secs_f64()))
        .execute(self.pool())
        .await
        .doing("changing a setting")
        .map(drop)
    }

    /// Takes one back; says whether it was there.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    pub async fn unset(&self, name: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM lockstep.settings WHERE name = $1")
            .bind(name)
            .execute(self.pool())
            .await
            .doing("taking a setting back")?;
        Ok(done.rows_affected() > 0)
    }
}
