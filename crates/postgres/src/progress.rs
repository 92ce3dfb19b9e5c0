//! Ranges of a backfill and their watermarks, kept in the source so that a killed run resumes (I4).

use lockstep_core::{Doing, Result, Window};

use super::clock::worker_is_live;
use super::range_plan::{RangePlan, add_ranges, hold_plan};
use super::{KeyBound, Source};
use crate::sql;

/// One range as it is stored.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct RangeRow {
    /// Number of the range within the table.
    pub number: i32,
    /// Key before the first row of the range.
    pub lower: Option<KeyBound>,
    /// Last key of the range.
    pub upper: Option<KeyBound>,
    /// Every row up to this key is acknowledged or dead-lettered.
    pub watermark: Option<KeyBound>,
    /// Whether the whole range is.
    pub done: bool,
    /// Rows read so far, over all runs.
    pub rows_read: i64,
    /// Rows that this backfill put into the target.
    pub rows_written: i64,
    /// Rows whose key was there already: a newer state, or an earlier run.
    pub rows_present: i64,
    /// Rows that were dead-lettered.
    pub dead_letters: i64,
    /// Bytes read so far.
    pub bytes_read: i64,
    /// The file whose blocks it is of; `None` for a range of keys, and where the schema is older than files.
    #[sqlx(default)]
    pub file: Option<String>,
    /// Block after the last one, of a range of blocks.
    #[sqlx(default)]
    pub until_block: Option<i64>,
}

/// Counts to add to a range when its watermark moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeProgress {
    /// Rows read.
    pub rows_read: i64,
    /// Rows put.
    pub rows_written: i64,
    /// Rows found present.
    pub rows_present: i64,
    /// Rows dead-lettered.
    pub dead_letters: i64,
    /// Bytes read.
    pub bytes_read: i64,
}

impl std::ops::AddAssign for RangeProgress {
    fn add_assign(&mut self, other: Self) {
        self.rows_read += other.rows_read;
        self.rows_written += other.rows_written;
        self.rows_present += other.rows_present;
        self.dead_letters += other.dead_letters;
        self.bytes_read += other.bytes_read;
    }
}

/// State of the plans of its tables that a worker without a range has to know.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct PlanLook {
    /// Number of the tables that have a plan.
    pub planned: i64,
    /// Whether a range of them is not done.
    pub open: bool,
    /// Whether a range of them is not done and held by no live worker.
    pub free: bool,
    /// A table whose plan was made for another window of days.
    pub other_window: Option<String>,
}

impl Source {
    /// Looks at the plans of these tables, by a worker that has this window. One statement, however many
    /// tables there are: each idle worker asks it every few seconds.
    ///
    /// # Errors
    /// The driver's.
    pub async fn look_at_plan(&self, tables: &[&str], window: &Window) -> Result<PlanLook> {
        let sql = format!(
            "SELECT pg_catalog.count(*) AS planned,
                 EXISTS (SELECT FROM lockstep.ranges WHERE NOT done AND table_name = ANY ($1)) AS open,
                 EXISTS (SELECT FROM lockstep.ranges WHERE NOT done AND table_name = ANY ($1)
                     AND (worker IS NULL OR worker = ANY (ARRAY(
                         SELECT w.id FROM lockstep.workers w
                         WHERE NOT {live})))) AS free,
                 pg_catalog.min(name) FILTER (WHERE window_start IS DISTINCT FROM $2::timestamptz
                     OR window_end IS DISTINCT FROM $3::timestamptz) AS other_window
             FROM lockstep.tables WHERE name = ANY ($1) AND planned_at IS NOT NULL",
            live = worker_is_live("w"),
        );
        sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(tables)
            .bind(window.start)
            .bind(window.end)
            .fetch_one(self.pool())
            .await
            .doing("looking at the plan of a backfill")
    }

    /// Stores the plan of a table's backfill, unless it has one.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn plan_ranges(&self, table: &str, window: &Window, plan: &RangePlan) -> Result<()> {
        let doing = "storing the plan of a backfill";
        let mut transaction = self.begin(doing).await?;
        let planned = sql::query(
            "UPDATE lockstep.tables SET planned_at = pg_catalog.clock_timestamp(), window_start = $2,
                window_end = $3
             WHERE name = $1 AND planned_at IS NULL",
        )
        .bind(table)
        .bind(window.start)
        .bind(window.end)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        if planned.rows_affected() == 1 {
            add_ranges(&mut transaction, table, plan, doing).await?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Forgets the plan of a table's backfill and its progress. The items that were written stay and are met
    /// again as present.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn forget_ranges(&self, table: &str) -> Result<()> {
        let doing = "forgetting the plan of a backfill";
        let mut transaction = self.begin(doing).await?;
        hold_plan(&mut transaction, table, doing).await?;
        sql::query("DELETE FROM lockstep.ranges WHERE table_name = $1")
            .bind(table)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        sql::query("DELETE FROM lockstep.import_parts WHERE table_name = $1")
            .bind(table)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        sql::query(
            "UPDATE lockstep.tables SET planned_at = NULL, window_start = NULL, window_end = NULL
             WHERE name = $1",
        )
        .bind(table)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        transaction.commit().await.doing(doing)
    }

    /// Returns the ranges of a table's backfill.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn ranges(&self, table: &str) -> Result<Vec<RangeRow>> {
        sql::query_as("SELECT * FROM lockstep.ranges WHERE table_name = $1 ORDER BY number")
            .persistent(false)
            .bind(table)
            .fetch_all(self.pool())
            .await
            .doing("reading the progress of a backfill")
    }
}
