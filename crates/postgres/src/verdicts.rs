//! What validations saw, for the gates.

use std::sync::atomic::Ordering::Relaxed;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::{Doing, Epoch, Result};
use serde::Serialize;
use serde_json::Value;

use super::Source;
use super::clock::age_s;

/// Verdicts that are kept whatever their age.
const VERDICTS_KEPT: i64 = 100;
/// How long every verdict is kept, in days.
const KEPT_DAYS: i32 = 30;

/// One validation's outcome.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct VerdictRow {
    /// When it ended, by the source's clock.
    pub at: DateTime<Utc>,
    /// Its age in seconds, by the same clock; infinite where `at` lies ahead of it, so that no bound lets
    /// it count.
    pub age_s: f64,
    /// The epoch it was made in.
    pub epoch: i64,
    /// Whether it said consistent.
    pub consistent: bool,
    /// Its report.
    pub report: Value,
}

/// What a verdict says, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictWord {
    /// Both stores hold the same.
    Consistent,
    /// They do not.
    Inconsistent,
    /// Nothing was found, and not everything was compared.
    Incomplete,
}

impl VerdictRow {
    /// What it says. A report that does not read counts as one that found differences.
    pub fn word(&self) -> VerdictWord {
        match self.report.get("verdict").and_then(Value::as_str) {
            _ if self.consistent => VerdictWord::Consistent,
            Some("incomplete") => VerdictWord::Incomplete,
            _ => VerdictWord::Inconsistent,
        }
    }
}

impl Source {
    /// Stores a verdict, and forgets those that are neither among the newest `VERDICTS_KEPT` nor younger
    /// than `KEPT_DAYS`: a report is as long as its findings, and a daemon makes one an hour.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn record_verdict(&self, epoch: Epoch, consistent: bool, report: &Value) -> Result<()> {
        let doing = "storing a verdict";
        sqlx::query("INSERT INTO lockstep.verdicts (epoch, consistent, report) VALUES ($1, $2, $3)")
            .bind(epoch.0)
            .bind(consistent)
            .bind(report)
            .execute(self.pool())
            .await
            .doing(doing)?;
        sqlx::query(
            "DELETE FROM lockstep.verdicts WHERE at < pg_catalog.clock_timestamp() - \
            pg_catalog.make_interval(days => $2)
                 AND id <= (SELECT id FROM lockstep.verdicts ORDER BY id DESC OFFSET $1 LIMIT 1)",
        )
        .bind(VERDICTS_KEPT)
        .bind(KEPT_DAYS)
        .execute(self.pool())
        .await
        .doing(doing)?;
        Ok(())
    }

    /// The newest verdict.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn latest_verdict(&self) -> Result<Option<VerdictRow>> {
        let sql = format!(
            "SELECT at, {} AS age_s, epoch, consistent, report
             FROM lockstep.verdicts ORDER BY id DESC LIMIT 1",
            age_s("at")
        );
        sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_optional(self.pool())
            .await
            .doing("reading the newest verdict")
    }

    /// The source's clock: the one that ages are measured by.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn clock(&self) -> Result<DateTime<Utc>> {
        let now: DateTime<Utc> = sqlx::query_scalar("SELECT pg_catalog.clock_timestamp()")
            .fetch_one(self.pool())
            .await
            .doing("reading the source's clock")?;
        self.ahead_ms.store((Utc::now() - now).num_milliseconds().max(0), Relaxed);
        Ok(now)
    }

    /// The present moment by the clock that is behind, this machine's or the source's as [`Source::clock`]
    /// found it last: what has expired by it has expired by both.
    ///
    /// 1. A machine's clock is months ahead. 2. A backfill there takes rows for expired, and leaves them
    ///    behind. 3. A
    /// comparison there excuses their absence, and says consistent.
    pub fn now_at_least(&self) -> DateTime<Utc> {
        Utc::now() - TimeDelta::milliseconds(self.ahead_ms.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_report_that_says_incomplete_is_taken_for_one_that_found_nothing() {
        for (consistent, report, word) in [
            (true, json!({ "verdict": "consistent" }), VerdictWord::Consistent),
            (false, json!({ "verdict": "incomplete" }), VerdictWord::Incomplete),
            (false, json!({ "verdict": "inconsistent" }), VerdictWord::Inconsistent),
            (false, json!({}), VerdictWord::Inconsistent),
        ] {
            let row = VerdictRow { at: DateTime::UNIX_EPOCH, age_s: 1.0, epoch: 1, consistent, report };
            assert_eq!(row.word(), word, "{}", row.report);
        }
    }
}
