//! Plan of the initial load of a table, and what it took (R50).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};

use super::Source;
use super::counts::TRUSTED;
use crate::sql;

/// The names under which a backfill counts what it moved: rows it put, and write units.
pub const INITIAL_LOAD_ROWS: &str = "spent.history_rows";
/// See [`INITIAL_LOAD_ROWS`].
pub const INITIAL_LOAD_UNITS: &str = "spent.history_units";

/// Plan of the initial load of a table: what it is reckoned to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadPlan {
    /// Rows.
    pub rows: f64,
    /// Write units, those of indexes included.
    pub write_units: f64,
    /// Distance of the true number from it, not exceeded nineteen times of twenty.
    pub units_band: f64,
    /// Seconds.
    pub seconds: f64,
}

/// The same beside what it took so far.
#[derive(Clone, Debug, PartialEq, sqlx_macros::FromRow)]
pub struct PlannedLoad {
    /// The table.
    pub table_name: String,
    /// Time at which it was planned, and its copying began.
    pub planned_at: DateTime<Utc>,
    /// Rows planned.
    pub rows: f64,
    /// Write units planned.
    pub write_units: f64,
    /// Distance of the true number from it.
    pub units_band: f64,
    /// Seconds planned.
    pub seconds: f64,
    /// Rows put since.
    pub rows_took: i64,
    /// Write units taken since, where the endpoint tells.
    pub units_took: i64,
    /// Seconds from the beginning to the end, or until now; pauses, and time when no process copied, are in
    /// it.
    pub seconds_took: f64,
    /// Time at which it had ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Source {
    /// Notes what the initial load of a table is reckoned to take. A plan that is there stays: what a second
    /// run reckons is the rest.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn note_plan(&self, table: &str, plan: LoadPlan) -> Result<()> {
        let sql = format!(
            "INSERT INTO lockstep.planned
                 (table_name, rows, write_units, units_band, seconds, rows_before, units_before)
             SELECT $1, $2, $3, $4, $5, coalesce(pg_catalog.sum(count) FILTER (WHERE name = $6), 0)::bigint,
                 coalesce(pg_catalog.sum(count) FILTER (WHERE name = $7), 0)::bigint
             FROM lockstep.counts WHERE table_name = $1 AND {TRUSTED} ON CONFLICT (table_name) DO NOTHING"
        );
        sql::query(sqlx::AssertSqlSafe(sql))
            .bind(table)
            .bind(plan.rows)
            .bind(plan.write_units)
            .bind(plan.units_band)
            .bind(plan.seconds)
            .bind(INITIAL_LOAD_ROWS)
            .bind(INITIAL_LOAD_UNITS)
            .execute(self.pool())
            .await
            .doing("noting what the initial load will take")
            .map(drop)
    }

    /// Notes that the initial load of these tables is in the target; the first time counts.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn note_load_ended(&self, tables: &[&str]) -> Result<()> {
        sql::query(
            "UPDATE lockstep.planned SET ended_at = pg_catalog.clock_timestamp()
             WHERE table_name = ANY ($1::text[]) AND ended_at IS NULL",
        )
        .bind(tables)
        .execute(self.pool())
        .await
        .doing("noting that the initial load was copied")
        .map(drop)
    }

    /// Forgets the plan of a table, whose initial load is copied once more.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn forget_planned(&self, table: &str) -> Result<()> {
        sql::query("DELETE FROM lockstep.planned WHERE table_name = $1")
            .bind(table)
            .execute(self.pool())
            .await
            .doing("forgetting a plan")
            .map(drop)
    }

    /// Returns what the initial load of each table was planned to take and took, in the order of their names.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn planned(&self) -> Result<Vec<PlannedLoad>> {
        let sql = format!(
            "SELECT p.table_name, p.planned_at, p.rows, p.write_units, p.units_band, p.seconds, p.ended_at,
                 greatest(coalesce(c.rows, 0) - p.rows_before, 0) AS rows_took,
                 greatest(coalesce(c.units, 0) - p.units_before, 0) AS units_took,
                 extract(epoch FROM coalesce(p.ended_at, pg_catalog.clock_timestamp()) - p.planned_at)::float8
                     AS seconds_took
             FROM lockstep.planned p CROSS JOIN LATERAL (SELECT
                 pg_catalog.sum(count) FILTER (WHERE name = $1)::bigint AS rows,
                 pg_catalog.sum(count) FILTER (WHERE name = $2)::bigint AS units
                 FROM lockstep.counts WHERE table_name = p.table_name AND {TRUSTED}) AS c
             ORDER BY p.table_name"
        );
        let read = sql::query_as(sqlx::AssertSqlSafe(sql)).bind(INITIAL_LOAD_ROWS).bind(INITIAL_LOAD_UNITS);
        match read.fetch_all(self.pool()).await.doing("reading what the initial load was planned to take") {
            // A schema of before has none.
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            read => read,
        }
    }
}
