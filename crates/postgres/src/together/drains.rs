//! Progress of the feeds of several tables.

use std::collections::HashMap;

use lockstep_core::{Doing, Result};
use sqlx::{FromRow as _, Row as _};

use crate::Source;
use crate::reverse::FeedStanding;
use crate::sql;

/// Time for which markers that came through are kept: longer than any round may take.
const MARKERS_KEPT: &str = "1 day";

/// Changes that one table's feed has had, and those it has left, of one moment.
#[derive(Clone, Debug, Default)]
pub struct FeedDrain {
    /// For each shard: whether it was read to its end, and the round of the newest marker that came through.
    pub shards: HashMap<String, (bool, Option<String>)>,
    /// Number of markers of the round that came through, in whichever shard.
    pub markers: i64,
    /// Rows that rode along and are not noted to be read again yet.
    pub riders: i64,
    /// Items that wait to be read again and are not accepted to stay behind.
    pub again: i64,
    /// Reason why, for the one that was tried most often.
    pub again_why: Option<String>,
    /// Reason why records are missing that no stream has any more; `None` where none are, or the whole target
    /// was read since.
    pub lost_why: Option<String>,
}

impl Source {
    /// Returns how far the feeds of these tables are through with a round, in their order. One snapshot: a
    /// row that moves from those that rode along to those that are read again is in exactly one of them.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn reverse_drains(&self, names: &[&str], round: &str) -> Result<Vec<FeedDrain>> {
        let doing = "asking how far the feeds are through";
        let found = sql::query(
            "SELECT s.shards, s.finished, s.markers, r.riders, g.again, g.again_why,
                 (SELECT t.lost_why FROM lockstep.reverse_tables t
                     WHERE t.table_name = asked.name AND t.lost_at IS NOT NULL) AS lost_why,
                 (SELECT pg_catalog.count(*) FROM lockstep.reverse_markers m
                     WHERE m.table_name = asked.name AND m.round = $2) AS of_round
             FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (name, nth),
                 LATERAL (SELECT coalesce(pg_catalog.array_agg(shard ORDER BY shard), '{}') AS shards,
                         coalesce(pg_catalog.array_agg(finished ORDER BY shard), '{}') AS finished,
                         coalesce(pg_catalog.array_agg(marker ORDER BY shard), '{}') AS markers
                     FROM lockstep.reverse_shards WHERE table_name = asked.name) AS s,
                 LATERAL (SELECT pg_catalog.count(*) AS riders
                     FROM lockstep.reverse_riders WHERE table_name = asked.name) AS r,
                 LATERAL (SELECT pg_catalog.count(*) AS again,
                         (pg_catalog.array_agg(why ORDER BY tries DESC))[1] AS again_why
                     FROM lockstep.reverse_again a
                     WHERE table_name = asked.name
                         AND pg_catalog.to_jsonb(a) ->> 'acknowledged_at' IS NULL) AS g
             ORDER BY asked.nth",
        )
        .bind(names)
        .bind(round)
        .fetch_all(self.pool())
        .await
        .doing(doing)?;
        let drain = |row: &sqlx::postgres::PgRow| -> sqlx::Result<FeedDrain> {
            let (shards, finished): (Vec<String>, Vec<bool>) = (row.try_get(0)?, row.try_get(1)?);
            let markers: Vec<Option<String>> = row.try_get(2)?;
            let shards = shards.into_iter().zip(finished.into_iter().zip(markers)).collect();
            Ok(FeedDrain {
                shards,
                riders: row.try_get(3)?,
                again: row.try_get(4)?,
                again_why: row.try_get(5)?,
                lost_why: row.try_get(6)?,
                markers: row.try_get(7)?,
            })
        };
        found.iter().map(drain).collect::<sqlx::Result<_>>().doing(doing)
    }

    /// Forgets the markers of a round that is over, and those of rounds that ended without a word.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it, or leave it: the next round forgets them.
    #[crate::boxed]
    pub async fn forget_markers(&self, names: &[&str], round: &str) -> Result<()> {
        sql::query(
            "DELETE FROM lockstep.reverse_markers WHERE table_name = ANY ($1)
                 AND (round = $2 OR seen_at < pg_catalog.clock_timestamp() - $3::interval)",
        )
        .bind(names)
        .bind(round)
        .bind(MARKERS_KEPT)
        .execute(self.pool())
        .await
        .doing("forgetting the markers of a round")
        .map(drop)
    }

    /// Returns those of these tables of which an item is to be read again or a row rode along, acknowledged
    /// or not.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn reverse_to_read(&self, names: &[&str]) -> Result<Vec<String>> {
        sql::query_scalar(
            "SELECT asked.name FROM pg_catalog.unnest($1::text[]) AS asked (name)
             WHERE EXISTS (SELECT FROM lockstep.reverse_riders r WHERE r.table_name = asked.name)
                OR EXISTS (SELECT FROM lockstep.reverse_again a WHERE a.table_name = asked.name)",
        )
        .bind(names)
        .fetch_all(self.pool())
        .await
        .doing("asking which tables have items to be read again")
    }

    /// Returns where the feeds of these tables stand, by name; those that never had one are left out.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn reverse_standings(&self, names: &[&str]) -> Result<HashMap<String, FeedStanding>> {
        let doing = "asking where the reverse feeds stand";
        let sql = format!("{} WHERE t.table_name = ANY ($1)", FeedStanding::select());
        let found =
            sql::query(sqlx::AssertSqlSafe(sql)).bind(names).fetch_all(self.pool()).await.doing(doing)?;
        let standing = |row: &sqlx::postgres::PgRow| -> sqlx::Result<(String, FeedStanding)> {
            Ok((row.try_get("table_name")?, FeedStanding::from_row(row)?))
        };
        found.iter().map(standing).collect::<sqlx::Result<_>>().doing(doing)
    }
}
