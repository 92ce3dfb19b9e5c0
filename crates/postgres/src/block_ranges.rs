//! Ranges of blocks as they are planned, split, and given up with the file that they are of.
//!
//! The bounds of one are numbers of blocks: it begins with `lower`, and `until_block` is the first block that
//! is not in it. Its watermark is the first block that is not acknowledged.

use lockstep_core::{Doing, Result, Window};

use super::clock::worker_is_live;
use super::range_plan::{RangePlan, add_ranges, hold_plan};
use super::{BlockRead, HeldRange, KeyBound, Source};
use crate::sql;

impl HeldRange {
    /// Returns what is left to read of a range of blocks; `None` for one of keys.
    pub fn blocks_left(&self, window: &Window) -> Option<BlockRead> {
        let (file, until) = (self.range.file.clone()?, self.range.until_block?);
        let first = self.range.watermark.as_ref().or(self.range.lower.as_ref());
        // A text that is no number is read from the start of the file: too much, and never too little.
        let from = first.and_then(|place| place.first()?.parse().ok()).unwrap_or(0);
        Some(BlockRead { from, until, file, window: window.clone(), bytes_expected: 0 })
    }
}

impl BlockRead {
    /// Returns the watermark of a range of which each block before `from` is acknowledged.
    pub fn watermark(&self) -> KeyBound {
        vec![self.from.to_string()]
    }
}

impl Source {
    /// Puts another plan in the place of one whose blocks are of `file`, with what was acknowledged of it.
    /// `false` where that plan is no more: another worker was first. A worker that holds a range of it has
    /// lost it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It happened or it did not; repeat it.
    #[crate::boxed]
    pub async fn plan_instead(&self, table: &str, file: &str, plan: &RangePlan) -> Result<bool> {
        let doing = "planning a backfill again";
        let mut transaction = self.begin(doing).await?;
        hold_plan(&mut transaction, table, doing).await?;
        let removed = sql::query("DELETE FROM lockstep.ranges WHERE table_name = $1 AND file = $2")
            .bind(table)
            .bind(file)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        if removed.rows_affected() == 0 {
            transaction.rollback().await.doing(doing)?;
            return Ok(false);
        }
        // As whatever else was made of the ranges that are gone.
        sql::query("DELETE FROM lockstep.import_parts WHERE table_name = $1")
            .bind(table)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        add_ranges(&mut transaction, table, plan, doing).await?;
        transaction.commit().await.doing(doing)?;
        Ok(true)
    }

    /// Splits a range as [`Source::split_range`] does, at a block: it is the first one of the new range.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// As [`Source::split_range`].
    #[crate::boxed]
    pub async fn split_blocks(&self, held: &HeldRange, at: i64) -> Result<bool> {
        let doing = "splitting a range of blocks";
        let sql = format!(
            "WITH shortened AS (
                 UPDATE lockstep.ranges SET until_block = $5
                 WHERE table_name = $1 AND number = $2 AND token = $3 AND worker = $4 AND NOT done
                     AND until_block = $6 AND EXISTS (SELECT 1 FROM lockstep.workers w
                     WHERE w.id = $4 AND {live})
                 RETURNING table_name, file)
             INSERT INTO lockstep.ranges (table_name, number, lower, upper, until_block, file)
             SELECT s.table_name, (SELECT pg_catalog.max(r.number) + 1 FROM lockstep.ranges r
                                   WHERE r.table_name = $1), ARRAY[$5::text], '{{}}', $6, s.file
             FROM shortened s",
            live = worker_is_live("w"),
        );
        let mut transaction = self.begin(doing).await?;
        hold_plan(&mut transaction, &held.table_name, doing).await?;
        let added = sql::query(sqlx::AssertSqlSafe(sql))
            .bind(&held.table_name)
            .bind(held.range.number)
            .bind(held.token)
            .bind(held.worker)
            .bind(at)
            .bind(held.range.until_block)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(added.rows_affected() == 1)
    }
}
