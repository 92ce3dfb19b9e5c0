//! Progress of comparisons that several processes share, for people.

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};
use serde::Serialize;

use super::Source;
use super::clock::worker_is_live;
use super::comparisons::{IS_LED, absent};
use crate::sql;

/// A comparison that several processes share, as others see it.
#[derive(Clone, Debug, Serialize, sqlx_macros::FromRow)]
pub struct ComparisonProgress {
    /// Table that is compared.
    pub table: String,
    /// The process that leads it and gives the verdict.
    pub leader: String,
    /// Time at which it began.
    pub started_at: DateTime<Utc>,
    /// Pieces of both sides.
    pub pieces: i64,
    /// Those that were read whole by a worker that is still there.
    pub pieces_read: i64,
    /// The workers that hold one, by name.
    pub workers: Vec<String>,
}

impl Source {
    /// Returns every comparison that has a leader now; none where schema `lockstep` is older than such
    /// comparisons, or where this role may not see them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn shared_comparisons(&self) -> Result<Vec<ComparisonProgress>> {
        let found = sql::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT c.table_name AS \"table\", c.name AS leader, c.started_at,
                 pg_catalog.count(*) AS pieces,
                 pg_catalog.count(*) FILTER (WHERE p.done AND w.id IS NOT NULL) AS pieces_read,
                 coalesce(pg_catalog.array_agg(DISTINCT w.name) FILTER (WHERE w.id IS NOT NULL), '{{}}')
                     AS workers
             FROM lockstep.comparisons c JOIN lockstep.comparison_pieces p ON p.run = c.run
             LEFT JOIN lockstep.workers w ON w.id = p.worker AND {live}
             WHERE {IS_LED}
             GROUP BY c.table_name, c.name, c.started_at ORDER BY c.table_name",
            live = worker_is_live("w")
        )))
        .fetch_all(self.pool())
        .await
        .doing("reading how far comparisons are");
        absent(found).map(Option::unwrap_or_default)
    }
}
