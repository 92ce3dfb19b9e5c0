//! Standing of a feed, as its tables say it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result};
use serde::Serialize;

use crate::Source;
use crate::clock::shard_seen_at;
use crate::sql;

/// Standing of the feed of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, sqlx_macros::FromRow)]
pub struct FeedStanding {
    /// Time in seconds since the last moment up to which everything was taken; of the shard that is furthest
    /// behind.
    pub lag_s: f64,
    /// Time at which the newest record that was taken was made.
    pub newest_at: Option<DateTime<Utc>>,
    /// Shards that are being read.
    pub shards_open: i64,
    /// Shards that were read to their end.
    pub shards_finished: i64,
    /// Items whose state was news, over all runs.
    pub applied: i64,
    /// Items that wait to be read again, because PostgreSQL would not have their rows.
    pub again: i64,
    /// Reason for the one that was tried most often.
    pub again_why: Option<String>,
    /// Items that expired; their rows stay.
    pub expired: i64,
    /// Changes that did not come through the guard.
    pub foreign_count: i64,
    /// Reason for the last of them.
    pub foreign_why: Option<String>,
    /// Items that another program gave a version of an epoch that never began, and that no operator has
    /// accepted.
    pub foreign_versions: i64,
    /// Reason for which the feed stands still before such a version.
    pub stopped_why: Option<String>,
    /// Time since which records are missing.
    pub lost_at: Option<DateTime<Utc>>,
    /// Reason why they are missing.
    pub lost_why: Option<String>,
}

impl FeedStanding {
    /// Reads it of tables `t`; the caller says of which.
    pub(crate) fn select() -> String {
        // Between the end of every shard and the first look at those that follow none is open: the feed is no
        // further behind than where the last of them ended.
        let seen_at = shard_seen_at();
        format!(
            "SELECT t.table_name, greatest(0, extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(s.seen_at,
                    s.ended_at, t.begun_at)))::float8 AS lag_s, s.newest_at,
                    s.shards_open, s.shards_finished, t.applied, a.again, a.again_why, a.foreign_versions,
                    pg_catalog.to_jsonb(t) ->> 'stopped_why' AS stopped_why, t.expired, t.foreign_count, t.foreign_why,
                    t.lost_at, t.lost_why
             FROM lockstep.reverse_tables t,
                  LATERAL (SELECT pg_catalog.min({seen_at}) FILTER (WHERE NOT finished) AS seen_at,
                          pg_catalog.max({seen_at}) FILTER (WHERE finished) AS ended_at,
                          pg_catalog.max(newest_at) AS newest_at,
                          pg_catalog.count(*) FILTER (WHERE NOT finished) AS shards_open,
                              pg_catalog.count(*) FILTER (WHERE finished) AS shards_finished
                   FROM lockstep.reverse_shards WHERE table_name = t.table_name) s,
                  LATERAL (SELECT pg_catalog.count(*) AS again, pg_catalog.count(*) FILTER (
                          WHERE (pg_catalog.to_jsonb(g) ->> 'foreign_version')::boolean) AS foreign_versions, (pg_catalog.array_agg(why
                      ORDER BY tries DESC))[1] AS again_why
                   FROM lockstep.reverse_again g
                   WHERE table_name = t.table_name AND pg_catalog.to_jsonb(g) ->> 'acknowledged_at' IS NULL) a"
        )
    }
}

impl Source {
    /// Returns where the feed of a table stands; `None` where there was never one.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_standing(&self, name: &str) -> Result<Option<FeedStanding>> {
        let sql = format!("{} WHERE t.table_name = $1", FeedStanding::select());
        sql::query_as(sqlx::AssertSqlSafe(sql))
            .bind(name)
            .fetch_optional(self.pool())
            .await
            .doing("asking where the reverse feed stands")
    }

    /// For each shard of a table: whether it was read to its end, and the round of the newest marker that
    /// came through.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_shards(&self, name: &str) -> Result<HashMap<String, (bool, Option<String>)>> {
        let found: Vec<(String, bool, Option<String>)> = sql::query_as(
            "SELECT shard, finished, marker FROM lockstep.reverse_shards WHERE table_name = $1",
        )
        .bind(name)
        .fetch_all(self.pool())
        .await
        .doing("asking how far the shards were read")?;
        Ok(found.into_iter().map(|(shard, finished, marker)| (shard, (finished, marker))).collect())
    }
}
