//! Use of a table, as PostgreSQL's statistics have counted it.

use lockstep_core::{Doing, Result};
use sqlx::Row as _;

use super::{Source, TableBinding};
use crate::sql;

/// Counts that PostgreSQL keeps of a table, and the time they cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Activity {
    /// Rows inserted.
    pub inserts: i64,
    /// Rows updated.
    pub updates: i64,
    /// Rows deleted.
    pub deletes: i64,
    /// Scans begun, by index or through the whole table: an upper bound for the number of reads.
    pub scans: i64,
    /// Seconds over which all of it was counted.
    pub counted_for_s: f64,
    /// Bytes on disk, indexes and out-of-line values included.
    pub total_bytes: i64,
}

impl Activity {
    /// Changed rows a second.
    pub fn writes_per_s(&self) -> f64 {
        (self.inserts + self.updates + self.deletes) as f64 / self.counted_for_s.max(1.0)
    }

    /// Reads a second, at most.
    pub fn reads_per_s(&self) -> f64 {
        self.scans as f64 / self.counted_for_s.max(1.0)
    }
}

impl Source {
    /// Returns the statistics of the relation of `binding`. They count since they were last reset, or since
    /// the server started where they never were; a relation that has none counts as unused.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn activity(&self, binding: &TableBinding) -> Result<Activity> {
        let row = sql::query(
            "SELECT coalesce(pg_catalog.sum(s.n_tup_ins), 0)::bigint AS inserts, coalesce(pg_catalog.sum(s.n_tup_upd), 0)::bigint AS updates,
                    coalesce(pg_catalog.sum(s.n_tup_del), 0)::bigint AS deletes,
                    coalesce(pg_catalog.sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0)), 0)::bigint AS scans,
                    pg_catalog.max(extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(d.stats_reset, pg_catalog.pg_postmaster_start_time())))::float8
                        AS counted_for_s,
                    pg_catalog.sum(pg_catalog.pg_total_relation_size(s.relid))::bigint AS total_bytes
             FROM pg_catalog.pg_stat_user_tables s
             JOIN pg_catalog.pg_stat_database d ON d.datname = pg_catalog.current_database()
             WHERE s.relid = pg_catalog.to_regclass($1)::oid
                 OR s.relid IN
                     (SELECT t.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS t)
             HAVING pg_catalog.count(*) > 0",
        )
        .bind(binding.relation.sql())
        .fetch_optional(self.pool())
        .await
        .doing("reading how much a table is used")?;
        Ok(row.map_or_else(Activity::default, |row| Activity {
            inserts: row.get("inserts"),
            updates: row.get("updates"),
            deletes: row.get("deletes"),
            scans: row.get("scans"),
            counted_for_s: row.get("counted_for_s"),
            total_bytes: row.get("total_bytes"),
        }))
    }
}
