//! Numbers of several tables: ranges, pending keys, dead letters.

use std::sync::LazyLock;

use lockstep_core::{Doing, Result};

use crate::Source;
use crate::dead_letters::count_sql;
use crate::pending::LAG;
use crate::sql;

/// Numbers of one table.
#[derive(Clone, Debug, PartialEq, sqlx_macros::FromRow)]
pub struct TableNumbers {
    /// Ranges of its backfill that are done.
    pub ranges_done: i64,
    /// All of them; 0 before there is a plan.
    pub ranges: i64,
    /// Rows that the backfill has read, over all runs.
    pub rows_read: i64,
    /// Those of ranges that are done.
    pub rows_of_done: i64,
    /// Pending keys and open intents.
    pub pending: i64,
    /// Age of the oldest, in seconds; 0 when nothing is pending.
    pub oldest_s: f64,
    /// Dead letters.
    pub dead_letters: i64,
    /// Those that no operator has acknowledged.
    pub unacknowledged: i64,
}

static NUMBERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT r.ranges_done, r.ranges, r.rows_read, r.rows_of_done, l.pending, l.oldest_s, d.dead_letters,
             d.unacknowledged
         FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (name, nth)
         CROSS JOIN LATERAL (
             SELECT pg_catalog.count(*) FILTER (WHERE done), pg_catalog.count(*),
                 coalesce(pg_catalog.sum(rows_read), 0)::bigint,
                 coalesce(pg_catalog.sum(rows_read) FILTER (WHERE done), 0)::bigint
             FROM lockstep.ranges WHERE table_name = asked.name)
             AS r (ranges_done, ranges, rows_read, rows_of_done)
         CROSS JOIN LATERAL ({}) AS l (pending, oldest_s)
         CROSS JOIN LATERAL ({}) AS d (dead_letters, unacknowledged)
         ORDER BY asked.nth",
        LAG.replace("$1", "asked.name"),
        count_sql().replace("$1", "asked.name"),
    )
});

impl Source {
    /// Returns the numbers of these tables, in their order, of one moment.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn table_numbers(&self, names: &[&str]) -> Result<Vec<TableNumbers>> {
        sql::query_as(NUMBERS.as_str())
            .bind(names)
            .fetch_all(self.pool())
            .await
            .doing("reading the numbers of all tables")
    }
}
