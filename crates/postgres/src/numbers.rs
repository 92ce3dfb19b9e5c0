//! The numbers that order comparisons, findings and captures.
//!
//! A sequence hands them out, so a source that was set back would hand them out again. The last bits are
//! drawn by chance, and what was drawn by a comparison is kept: one of a time that is lost has a number that
//! this source does not know.

use lockstep_core::{Doing, Kind, Result};

use super::Source;
use crate::sql;

/// Number of days for which it is known that a comparison has begun: longer than any gate takes its verdict.
const KNOWN_DAYS: i32 = 30;

impl Source {
    /// Draws the next of the numbers that order comparisons, findings and captures. `None` where the schema
    /// is of before them, or this session may only read: a verdict without a number opens no gate.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn draw_number(&self) -> Result<Option<i64>> {
        if !self.has_numbers().await? {
            return Ok(None);
        }
        let drawn = sql::query_scalar(
            "WITH known AS (
                 DELETE FROM lockstep.begun_comparisons
                 WHERE at < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => $1))
             INSERT INTO lockstep.begun_comparisons (number)
             VALUES ((pg_catalog.nextval('lockstep.comparison_seq') << 20)
                 + pg_catalog.floor(pg_catalog.random() * 1048576)::bigint)
             RETURNING number",
        )
        .bind(KNOWN_DAYS)
        .fetch_one(self.pool())
        .await
        .doing("drawing the number of a comparison");
        match drawn {
            Ok(number) => Ok(Some(number)),
            // A reader compares as well, and nothing rests on what it finds.
            Err(error) if error.kind == Kind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells whether comparisons have begun here under all of these numbers. Not so of one that began in a
    /// time that this source has lost, or more than a month ago.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn have_begun(&self, numbers: &[i64]) -> Result<bool> {
        sql::query_scalar(
            "SELECT NOT EXISTS (
                 SELECT FROM pg_catalog.unnest($1::bigint[]) AS drawn (number)
                 WHERE NOT EXISTS (SELECT FROM lockstep.begun_comparisons b WHERE b.number = drawn.number))",
        )
        .bind(numbers)
        .fetch_one(self.pool())
        .await
        .doing("looking whether a comparison began here")
    }

    /// Tells whether a number can be drawn. A standby can be compared with, and draws nothing.
    async fn has_numbers(&self) -> Result<bool> {
        sql::query_scalar(
            "SELECT pg_catalog.to_regclass('lockstep.begun_comparisons') IS NOT NULL
                 AND NOT pg_catalog.pg_is_in_recovery()",
        )
        .fetch_one(self.pool())
        .await
        .doing("looking whether comparisons are numbered")
    }
}
