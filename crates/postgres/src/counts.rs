//! Counts of applications and the daemon: written by the minute, read by the daemon and by gates.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::settings::Settings;
use lockstep_core::{Doing, Epoch, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use super::Source;
use crate::sql;

/// Time for which a count of a minute is kept. Spent units are kept for good.
const KEPT: &str = "1 day";
/// Condition for rows that no operator distrusts: rows of ours, and of roles that no operator has named. A
/// role may report what it likes. 1. One reports differences that it made up, again and again. 2. HybridRead
/// is refused, or stepped back from, and no comparison helps, as each is older than the next report. So there
/// is a way to pass over a role, and the gate says whose reports it goes by.
pub(super) const TRUSTED: &str = "owner::text <> ALL (pg_catalog.string_to_array(coalesce((
    SELECT CASE WHEN s.until <= pg_catalog.clock_timestamp()
            THEN pg_catalog.to_jsonb(s) #>> '{former,value}' ELSE s.value #>> '{}' END
    FROM lockstep.settings s WHERE s.name = 'distrusted_reporters'), ''), ','))";

/// Something counted, of one table or of all (`table_name` is empty then).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx_macros::FromRow)]
pub struct CountRow {
    /// Name of the table.
    pub table_name: String,
    /// Name of what is counted.
    pub name: String,
    /// Number of times.
    pub count: i64,
    /// Number of those more than three minutes ago: what began then has ended, or never will.
    #[sqlx(default)]
    pub older: i64,
    /// Time at which it was counted last.
    pub newest_at: DateTime<Utc>,
}

impl Source {
    /// Returns what was counted within the last `within`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn counted(&self, within: Duration) -> Result<Vec<CountRow>> {
        self.counts_since(
            "since > pg_catalog.clock_timestamp() - $1::float8 * interval '1 second'",
            within.as_secs_f64(),
        )
        .await
    }

    /// Returns what was spent since the migration began, in units and requests.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn spent(&self) -> Result<Vec<CountRow>> {
        self.counts_since("name LIKE 'spent.%' AND $1::float8 >= 0", 0.0).await
    }

    async fn counts_since(&self, condition: &str, argument: f64) -> Result<Vec<CountRow>> {
        let sql = format!(
            "SELECT table_name, name, pg_catalog.sum(count)::bigint AS count,
                 coalesce(pg_catalog.sum(count) FILTER (WHERE since < pg_catalog.clock_timestamp()
                     - interval '3 minutes'), 0)::bigint AS older,
                 pg_catalog.max(newest_at) AS newest_at
             FROM lockstep.counts WHERE {condition} AND {TRUSTED}
             GROUP BY table_name, name ORDER BY table_name, name"
        );
        let read = sql::query_as(sqlx::AssertSqlSafe(sql)).bind(argument).fetch_all(self.pool()).await;
        match read.doing("reading what was counted") {
            // A schema of before has none.
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            read => read,
        }
    }

    /// Counts what this process saw itself, beside what applications report: those count in rows of their
    /// own, by role, and nothing here waits for a report that is left open.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It is counted, or it is not.
    #[crate::boxed]
    pub async fn count_up(&self, counted: &[(&str, &str, u64)]) -> Result<()> {
        let counted: Vec<_> = counted.iter().filter(|(_, _, count)| *count > 0).collect();
        if counted.is_empty() {
            return Ok(());
        }
        let (mut tables, mut names, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (table, name, count) in counted {
            tables.push((*table).to_owned());
            names.push((*name).to_owned());
            counts.push(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        sql::query(
            "INSERT INTO lockstep.counts AS c (since, epoch, table_name, name, count, newest_at)
             SELECT pg_catalog.date_trunc(CASE WHEN n.name LIKE 'spent.%' THEN 'day' ELSE 'minute' END, pg_catalog.clock_timestamp()),
                 (SELECT k.epoch FROM lockstep.control k), n.table_name, n.name, pg_catalog.sum(n.count)::bigint, pg_catalog.clock_timestamp()
             FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (table_name, name, count)
             GROUP BY n.table_name, n.name ORDER BY n.table_name, n.name
             ON CONFLICT (since, epoch, table_name, name, owner)
                 DO UPDATE SET count = c.count + excluded.count, newest_at = excluded.newest_at",
        )
        .bind(tables)
        .bind(names)
        .bind(counts)
        .execute(self.pool())
        .await
        .doing("counting")
        .map(drop)
    }

    /// Forgets counts that nothing asks for any more.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn forget_counts(&self) -> Result<()> {
        sql::query(
            "DELETE FROM lockstep.counts WHERE name NOT LIKE 'spent.%' AND since < pg_catalog.clock_timestamp() - $1::interval",
        )
        .bind(KEPT)
        .execute(self.pool())
        .await
        .doing("forgetting old counts")
        .map(drop)
    }

    /// Returns what was counted in `epoch` since `since`; none where the schema is of before anything was
    /// counted.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn counted_in(&self, epoch: Epoch, since: DateTime<Utc>) -> Result<Vec<CountRow>> {
        let sql = format!(
            "SELECT table_name, name, pg_catalog.sum(count)::bigint AS count, pg_catalog.max(newest_at) AS newest_at FROM lockstep.counts
             WHERE epoch = $1 AND newest_at > $2 AND {TRUSTED}
             GROUP BY table_name, name ORDER BY table_name, name"
        );
        let read =
            sql::query_as(sqlx::AssertSqlSafe(sql)).bind(epoch.0).bind(since).fetch_all(self.pool()).await;
        match read.doing("reading what was counted") {
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            read => read,
        }
    }

    /// Returns the roles that have reported shadow reads that differ, of those that count, in `epoch` since
    /// `since`, and how many: the most first.
    ///
    /// # Errors
    /// The driver's.
    pub async fn reporters_of_differences(
        &self,
        epoch: Epoch,
        since: DateTime<Utc>,
    ) -> Result<Vec<(String, i64)>> {
        let sql = format!(
            "SELECT owner::text, pg_catalog.sum(count)::bigint AS reported FROM lockstep.counts
             WHERE epoch = $1 AND newest_at > $2 AND name = 'shadow.differ' AND owner <> '' AND {TRUSTED}
             GROUP BY owner ORDER BY reported DESC, owner LIMIT 10"
        );
        let read =
            sql::query_as(sqlx::AssertSqlSafe(sql)).bind(epoch.0).bind(since).fetch_all(self.pool()).await;
        match read.doing("reading who has reported differences") {
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            read => read,
        }
    }
}

/// Returns the settings in force, read on an application's own connection with the rights that it has; none
/// where the schema is of before they were kept there.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn read_settings(connection: &mut PgConnection) -> Result<Settings> {
    let (kept, now_s): (Option<Value>, f64) = sql::query_as(
        "SELECT pg_catalog.to_jsonb(c) -> 'settings', extract(epoch FROM pg_catalog.clock_timestamp())::float8
         FROM lockstep.control c",
    )
    .fetch_one(connection)
    .await
    .doing("reading the settings")?;
    Ok(Settings::in_force(&kept.unwrap_or_default(), now_s))
}

/// Hands over what an application has counted, in its own row of `instances`. Says whether there was one.
///
/// The migration's own tables are counted and no others, a million of a kind at most, and an epoch that is
/// still to come counts as today's: what a role reports is its choice, and others read it.
///
/// # Errors
/// The driver's; [`Kind::Busy`](lockstep_core::Kind::Busy) among them where another transaction of the same
/// role reports and has not ended. Nothing is taken over then.
///
/// # Cancel safety
/// It is taken over, or it is not.
#[crate::boxed]
pub async fn report(connection: &mut PgConnection, id: i64, counted: &[(&str, &str, u64)]) -> Result<bool> {
    let rows: Vec<Value> = counted
        .iter()
        .map(|(table, name, count)| {
            json!({ "table_name": table, "name": name, "count": i32::try_from(*count).unwrap_or(i32::MAX) })
        })
        .collect();
    let done = sql::query("UPDATE lockstep.instances SET report = $2 WHERE id = $1")
        .bind(id)
        .bind(Value::from(rows))
        .execute(connection)
        .await
        .doing("reporting what was counted")?;
    Ok(done.rows_affected() == 1)
}
