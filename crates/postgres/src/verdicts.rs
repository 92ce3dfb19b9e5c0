//! What validations saw, for the gates.

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Epoch, Result};
use serde_json::Value;

use super::Source;

/// One validation's outcome.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct VerdictRow {
    /// When it ended, by the source's clock.
    pub at: DateTime<Utc>,
    /// Its age in seconds, by the same clock.
    pub age_s: f64,
    /// The epoch it was made in.
    pub epoch: i64,
    /// Whether it said consistent.
    pub consistent: bool,
    /// Its report.
    pub report: Value,
}

impl Source {
    /// Stores a verdict.
    ///
    /// # Errors
    /// The driver's.
    pub async fn record_verdict(&self, epoch: Epoch, consistent: bool, report: &Value) -> Result<()> {
        sqlx::query("INSERT INTO lockstep.verdicts (epoch, consistent, report) VALUES ($1, $2, $3)")
            .bind(epoch.0)
            .bind(consistent)
            .bind(report)
            .execute(self.pool())
            .await
            .doing("storing a verdict")?;
        Ok(())
    }

    /// The newest verdict.
    ///
    /// # Errors
    /// The driver's.
    pub async fn latest_verdict(&self) -> Result<Option<VerdictRow>> {
        sqlx::query_as(
            "SELECT at, extract(epoch FROM pg_catalog.clock_timestamp() - at)::float8 AS age_s, epoch,
                consistent, report
             FROM lockstep.verdicts ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(self.pool())
        .await
        .doing("reading the newest verdict")
    }

    /// The source's clock: the one that ages are measured by.
    ///
    /// # Errors
    /// The driver's.
    pub async fn clock(&self) -> Result<DateTime<Utc>> {
        sqlx::query_scalar("SELECT pg_catalog.clock_timestamp()")
            .fetch_one(self.pool())
            .await
            .doing("reading the source's clock")
    }
}
