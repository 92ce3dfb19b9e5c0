//! Verdicts of validations, for the gates.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::{Doing, Epoch, Result};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgConnection;

use super::Source;
use super::clock::age_s;
use crate::sql;

/// Verdicts that are kept whatever their age.
const VERDICTS_KEPT: i64 = 100;
/// Number of days for which every verdict is kept.
const KEPT_DAYS: i32 = 30;

/// See [`Source::latest_verdict`]. A record of a version that says nothing of findings is read by its words.
fn newest() -> String {
    format!(
        "WITH found AS (
             SELECT number FROM lockstep.verdicts
             WHERE coalesce(found, NOT consistent AND coalesce(report ->> 'verdict', '') <> 'incomplete')
             ORDER BY number DESC LIMIT 1),
         unanswered AS (
             SELECT number FROM found f
             WHERE NOT EXISTS (SELECT FROM lockstep.verdicts a WHERE a.answers AND a.began > f.number))
         SELECT at, {} AS age_s, began, epoch, consistent, report
         FROM lockstep.verdicts
         WHERE CASE WHEN EXISTS (SELECT FROM unanswered) THEN number = (SELECT number FROM unanswered)
               ELSE whole AND NOT coalesce(found,
                   NOT consistent AND coalesce(report ->> 'verdict', '') <> 'incomplete') END
         ORDER BY began DESC NULLS LAST, id DESC LIMIT 1",
        age_s("at")
    )
}

/// Returns the verdict that was recorded last, whatever it is of; in a schema of before numbers there is no
/// other order.
fn recorded_last() -> String {
    format!(
        "SELECT at, {} AS age_s, NULL::bigint AS began, epoch, consistent, report
         FROM lockstep.verdicts ORDER BY id DESC LIMIT 1",
        age_s("at")
    )
}

const READING: &str = "reading the newest verdict";

/// Returns the same on this connection, as of its transaction.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn latest_verdict_in(connection: &mut PgConnection) -> Result<Option<VerdictRow>> {
    sql::query_as(sqlx::AssertSqlSafe(newest())).fetch_optional(connection).await.doing(READING)
}

/// One validation's outcome.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct VerdictRow {
    /// Time at which it ended, by the source's clock.
    pub at: DateTime<Utc>,
    /// Age in seconds, by the same clock; infinite where `at` lies ahead of it, so that no bound lets it
    /// count.
    pub age_s: f64,
    /// The number that it drew before its first reading; `None` where a version that drew none recorded it.
    pub began: Option<i64>,
    /// The epoch it was made in.
    pub epoch: i64,
    /// Whether it said consistent.
    pub consistent: bool,
    /// Report of the comparison.
    pub report: Value,
}

/// Verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictWord {
    /// Both stores hold the same.
    Consistent,
    /// The stores differ.
    Inconsistent,
    /// Nothing was found, and not everything was compared.
    Incomplete,
}

impl VerdictRow {
    /// Returns the moment of its oldest reading, as of which a verdict speaks: a run may take hours, or be
    /// killed and resumed. A fault found while it goes on may be of a key that it has read already.
    pub fn oldest_reading(&self) -> DateTime<Utc> {
        self.readings().flatten().min().unwrap_or(self.at)
    }

    /// Returns the age of its oldest reading in seconds, by the source's clock; infinite as [`Self::age_s`].
    pub fn reading_age_s(&self) -> f64 {
        self.age_s + (self.at - self.oldest_reading()).as_seconds_f64().max(0.0)
    }

    /// Returns the verdict in one word. A report that does not read counts as one that found differences.
    pub fn word(&self) -> VerdictWord {
        word_of(self.consistent, &self.report)
    }

    /// Returns the time of its oldest reading, by the source's clock; `None` where it does not say that of
    /// each table.
    pub fn as_of(&self) -> Option<DateTime<Utc>> {
        self.readings().collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Returns the time of the oldest reading of each table, where the report says it.
    fn readings(&self) -> impl Iterator<Item = Option<DateTime<Utc>>> + '_ {
        let tables = self.report.get("tables").and_then(Value::as_array);
        tables.into_iter().flatten().map(|table| table.get("as_of")?.as_str()?.parse().ok())
    }
}

fn word_of(consistent: bool, report: &Value) -> VerdictWord {
    match report.get("verdict").and_then(Value::as_str) {
        _ if consistent => VerdictWord::Consistent,
        Some("incomplete") => VerdictWord::Incomplete,
        _ => VerdictWord::Inconsistent,
    }
}

impl Source {
    /// Stores a verdict, and forgets those that are neither among the newest `VERDICTS_KEPT` nor younger
    /// than `KEPT_DAYS`: a report is as long as its findings, and a daemon makes one an hour.
    ///
    /// One that says consistent of some of the migration's tables, of some days or of a sample is stored as
    /// such: it is not the migration's newest verdict. So is one that did not begin here, but in a time that
    /// this source has lost. Its findings count as any others do.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn record_verdict(&self, epoch: Epoch, consistent: bool, report: &Value) -> Result<()> {
        let doing = "storing a verdict";
        let summary = Summary::of(consistent, report);
        let answers: bool = sql::query_scalar(
            "INSERT INTO lockstep.verdicts (epoch, consistent, report, began, found, whole, answers)
             SELECT $1, $2, $3, $4, $5, of_all, $2 AND $8 AND of_all
             FROM (SELECT $6
                 AND EXISTS (SELECT FROM lockstep.begun_comparisons b WHERE b.number = $4)
                 AND NOT EXISTS (
                       SELECT FROM lockstep.tables t WHERE t.name <> ALL ($7::text[])) AS of_all) AS scope
             RETURNING answers",
        )
        .bind(epoch.0)
        .bind(consistent)
        .bind(report)
        .bind(summary.began)
        .bind(summary.found)
        .bind(summary.everything)
        .bind(&summary.tables)
        .bind(!summary.incremental)
        .fetch_one(self.pool())
        .await
        .doing(doing)?;
        if answers {
            self.note_decided(epoch).await?;
        }
        sql::query(
            "DELETE FROM lockstep.verdicts WHERE at < pg_catalog.clock_timestamp() - \
            pg_catalog.make_interval(days => $2)
                 AND id <= (SELECT id FROM lockstep.verdicts ORDER BY id DESC OFFSET $1 LIMIT 1)
                 AND number <> coalesce(
                     (SELECT pg_catalog.max(number) FROM lockstep.verdicts WHERE found), 0)",
        )
        .bind(VERDICTS_KEPT)
        .bind(KEPT_DAYS)
        .execute(self.pool())
        .await
        .doing(doing)?;
        Ok(())
    }

    /// Returns the newest verdict of the migration: the newest finding, unless a comparison of everything has
    /// begun after that was recorded and found nothing; then, of those that are of everything, the one that
    /// began last. The order in which they ended does not matter, nor does any clock.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn latest_verdict(&self) -> Result<Option<VerdictRow>> {
        let read = async |sql: String| {
            sql::query_as(sqlx::AssertSqlSafe(sql)).fetch_optional(self.pool()).await.doing(READING)
        };
        match read(newest()).await {
            // Columns that a schema of before numbers does not have.
            Err(error) if error.sqlstate().as_deref() == Some("42703") => read(recorded_last()).await,
            found => found,
        }
    }

    /// Returns the verdict that was recorded after `decides`, the one of [`Source::latest_verdict`], if any
    /// was and says another word: of a part, or incremental, so that it does not answer a finding that
    /// stands.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn verdict_after(&self, decides: &VerdictRow) -> Result<Option<VerdictRow>> {
        let last: Option<VerdictRow> = sql::query_as(sqlx::AssertSqlSafe(recorded_last()))
            .fetch_optional(self.pool())
            .await
            .doing("reading the verdict that was recorded last")?;
        Ok(last.filter(|last| last.at > decides.at && last.word() != decides.word()))
    }

    /// Returns the source's clock: the one that ages are measured by.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn clock(&self) -> Result<DateTime<Utc>> {
        let now: DateTime<Utc> = sql::query_scalar("SELECT pg_catalog.clock_timestamp()")
            .fetch_one(self.pool())
            .await
            .doing("reading the source's clock")?;
        *self.clock_seen.write().unwrap_or_else(PoisonError::into_inner) = Some((now, Instant::now()));
        Ok(now)
    }

    /// Returns the present moment by the clock that is behind, this machine's or the source's as
    /// [`Source::clock`] found it last, by which the time since then is counted: what has expired by it has
    /// expired by both.
    ///
    /// 1. A machine's clock is months ahead, or steps there while a pass is under way. 2. A backfill there
    /// takes rows for expired, and leaves them behind. 3. A comparison there excuses their absence, and
    /// says consistent.
    pub fn now_at_least(&self) -> DateTime<Utc> {
        let seen = *self.clock_seen.read().unwrap_or_else(PoisonError::into_inner);
        at_least(Utc::now(), seen.map(|(at, then)| (at, then.elapsed())))
    }
}

/// Returns the earlier of this machine's clock and another one that was seen a while ago. Pure.
fn at_least(ours: DateTime<Utc>, seen: Option<(DateTime<Utc>, Duration)>) -> DateTime<Utc> {
    let theirs = seen.and_then(|(at, ago)| at.checked_add_signed(TimeDelta::from_std(ago).ok()?));
    theirs.map_or(ours, |theirs| theirs.min(ours))
}

/// Part of a report that decides whether it is the migration's verdict.
struct Summary {
    began: Option<i64>,
    found: bool,
    /// True for a report of all days, no sample, and of the table itself, under a seed by chance: what was
    /// lost since an export was made is in none, and under a seed that is known a row and an item can be made
    /// that differ and have one print.
    everything: bool,
    incremental: bool,
    tables: Vec<String>,
}

impl Summary {
    fn of(consistent: bool, report: &Value) -> Self {
        let is_there = |name: &str| report.get(name).is_some_and(|at| !at.is_null());
        let tables = report.get("tables").and_then(Value::as_array);
        let names = tables.into_iter().flatten().filter_map(|table| table.get("name")?.as_str());
        let says = |name: &str| report.get(name).and_then(Value::as_bool).unwrap_or(false);
        Self {
            began: report.get("began").and_then(Value::as_i64),
            found: word_of(consistent, report) == VerdictWord::Inconsistent,
            everything: !["window_start", "window_end", "sample"].into_iter().any(is_there)
                && !says("from_export")
                && !says("seed_given"),
            incremental: says("incremental"),
            tables: names.map(str::to_owned).collect(),
        }
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
            let row = VerdictRow {
                at: DateTime::UNIX_EPOCH,
                age_s: 1.0,
                began: None,
                epoch: 1,
                consistent,
                report,
            };
            assert_eq!(row.word(), word, "{}", row.report);
        }
    }

    #[test]
    fn what_has_expired_has_done_so_by_both_clocks_also_where_ours_steps_ahead() {
        let at = |s| DateTime::UNIX_EPOCH + TimeDelta::seconds(s);
        let ago = Duration::from_secs(60);
        for (ours, seen, least) in [
            (at(1_060), Some((at(1_000), ago)), at(1_060)),
            (at(9_000_000), Some((at(1_000), ago)), at(1_060)),
            (at(500), Some((at(1_000), ago)), at(500)),
            (at(500), None, at(500)),
        ] {
            assert_eq!(at_least(ours, seen), least);
        }
    }

    #[test]
    fn the_age_of_a_verdict_is_that_of_its_oldest_reading() {
        let at = DateTime::UNIX_EPOCH + TimeDelta::hours(12);
        let row = |report| VerdictRow { at, age_s: 60.0, began: None, epoch: 1, consistent: true, report };
        let read = json!({ "tables": [
            { "name": "a", "as_of": "1970-01-01T11:00:00Z" },
            { "name": "b", "as_of": "1970-01-01T09:00:00Z" },
        ] });
        assert_eq!(row(read).reading_age_s(), 3.0 * 3_600.0 + 60.0);
        assert_eq!(row(json!({})).reading_age_s(), 60.0, "an earlier version says no moment");
        let ahead = VerdictRow { age_s: f64::INFINITY, ..row(json!({})) };
        assert!(ahead.reading_age_s().is_infinite());
    }
}
