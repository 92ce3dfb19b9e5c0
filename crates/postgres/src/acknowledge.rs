//! Reports of a worker about a range that it holds: how far it is done, and that a part of it is given away.
//! Both are checked against the lease by the statement that saves them.

use lockstep_core::{Doing, Result};

use super::binding::{list, quote_identifier};
use super::clock::worker_is_live;
use super::copy::bound_sql;
use super::range_plan::hold_plan;
use super::{HeldRange, KeyBound, RangeProgress, Source, TableBinding};
use crate::sql;

const SPLITTING: &str = "splitting a range";

/// Outcome of moving a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Acknowledged {
    /// Workers that have found no range to take.
    pub idle_workers: i64,
}

impl Source {
    /// Moves the watermark of a range that is held. Only forward: the engine calls it once everything up to
    /// `watermark` is done.
    ///
    /// `None` where the lease is over, or the range is another's by now, or the plan was forgotten: nothing
    /// was saved then, and the caller lets go of the range. The lease is checked here, in the statement that
    /// saves.
    /// 1. A worker checks that its lease lasts. 2. It is stopped for a minute. 3. Another one has taken the
    /// range meanwhile. 4. The first one wakes and acknowledges.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// One statement: it happened or it did not, and not having happened only means that rows are read again.
    #[crate::boxed]
    pub async fn move_watermark(
        &self,
        held: &HeldRange,
        watermark: Option<&KeyBound>,
        done: bool,
        add: RangeProgress,
    ) -> Result<Option<Acknowledged>> {
        let sql = format!(
            "UPDATE lockstep.ranges SET watermark = coalesce($3, watermark), done = done OR $4,
                 rows_read = rows_read + $5, rows_written = rows_written + $6,
                 rows_present = rows_present + $7, dead_letters = dead_letters + $8,
                 bytes_read = bytes_read + $9, worker = CASE WHEN $4 THEN NULL ELSE worker END
             WHERE table_name = $1 AND number = $2 AND token = $10 AND worker = $11 AND NOT done AND EXISTS (
                 SELECT 1 FROM lockstep.workers w
                 WHERE w.id = $11 AND {live})
             RETURNING (SELECT pg_catalog.count(*) FROM lockstep.workers w
                 WHERE w.idle AND {live}) AS idle_workers",
            live = worker_is_live("w"),
        );
        sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(&held.table_name)
            .bind(held.range.number)
            .bind(watermark)
            .bind(done)
            .bind(add.rows_read)
            .bind(add.rows_written)
            .bind(add.rows_present)
            .bind(add.dead_letters)
            .bind(add.bytes_read)
            .bind(held.token)
            .bind(held.worker)
            .fetch_optional(self.pool())
            .await
            .doing("moving a watermark")
    }

    /// Gives the part of a held range after `at` away, as a range of its own that any worker may take; says
    /// whether it did. Nothing after `at` may have been read under this lease.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It happened or it did not; the caller that does not know lets go of the range.
    #[crate::boxed]
    pub async fn split_range(&self, held: &HeldRange, at: &KeyBound) -> Result<bool> {
        let sql = format!(
            "WITH shortened AS (
                 UPDATE lockstep.ranges SET upper = $5
                 WHERE table_name = $1 AND number = $2 AND token = $3 AND worker = $4 AND NOT done
                     AND EXISTS (SELECT 1 FROM lockstep.workers w
                     WHERE w.id = $4 AND {live})
                 RETURNING table_name)
             INSERT INTO lockstep.ranges (table_name, number, lower, upper)
             SELECT s.table_name, (SELECT pg_catalog.max(r.number) + 1 FROM lockstep.ranges r
                                   WHERE r.table_name = $1), $5, $6
             FROM shortened s
             ON CONFLICT DO NOTHING",
            live = worker_is_live("w"),
        );
        let split = sql::query(sqlx::AssertSqlSafe(sql));
        let mut transaction = self.begin(SPLITTING).await?;
        hold_plan(&mut transaction, &held.table_name, SPLITTING).await?;
        let added = split
            .bind(&held.table_name)
            .bind(held.range.number)
            .bind(held.token)
            .bind(held.worker)
            .bind(at)
            .bind(&held.range.upper)
            .execute(&mut *transaction)
            .await
            .doing(SPLITTING)?;
        if added.rows_affected() == 0 {
            // The lease is over, or another split took the number: without the new range there is no shorter
            // one either.
            transaction.rollback().await.doing(SPLITTING)?;
            return Ok(false);
        }
        transaction.commit().await.doing(SPLITTING)?;
        Ok(true)
    }

    /// Returns a key about in the middle of what lies between two keys, by a sample of `percent` of the
    /// table's pages, and how many rows the sample has there; `None` where it has too few to say.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn middle_key(
        &self,
        binding: &TableBinding,
        between: (Option<&KeyBound>, &KeyBound),
        percent: f64,
    ) -> Result<Option<(KeyBound, i64)>> {
        let key = binding.primary_key_sql("s");
        let texts = list(binding.primary_key().map(|name| format!("s.{}::text", quote_identifier(name))));
        let (after, until) = between;
        let after = after.map(|bound| format!(" AND ({key}) > ({})", bound_sql(binding, bound)));
        let sql = format!(
            // No column of the table leaves the inner one: it may be called as one of ours.
            "SELECT sampled.place, sampled.total FROM (
                 SELECT ARRAY[{texts}] AS place, pg_catalog.row_number() OVER (ORDER BY {key}) AS place_number,
                     pg_catalog.count(*) OVER () AS total
                 FROM {relation} AS s TABLESAMPLE SYSTEM ({percent}) WHERE ({key}) < ({until}){after}) AS sampled
             WHERE sampled.total >= 3 AND sampled.place_number = (sampled.total + 1) / 2",
            relation = binding.relation.sql(),
            until = bound_sql(binding, until),
            after = after.unwrap_or_default(),
        );
        sql::query_as(sqlx::AssertSqlSafe(sql)).fetch_optional(self.pool()).await.doing(SPLITTING)
    }
}
