//! Positions up to which the streams were read.

use std::collections::HashMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use lockstep_core::Advice::ReverseBackfill;
use lockstep_core::{Doing, EPOCH_SHIFT, Phase, RETENTION, Result, Saved};
use sqlx::AssertSqlSafe;

use super::FedTable;
use super::accepted::withdraw_all;
use crate::Source;
use crate::binding::text_digest_sql;
use crate::clock::shard_seen_at;
use crate::sql;

/// A shard that was looked at and had nothing more.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Table name.
    pub table: &'static str,
    /// Id of the shard.
    pub shard: String,
    /// Time at which it was looked at.
    pub at: Instant,
}

/// A shard that was not looked at for this long may have lost records without a trace: it had no position
/// yet, or none of its records was left to say so. An hour less than the retention, for the clocks.
const UNSEEN_MAX_S: f64 = RETENTION.as_secs() as f64 - 3_600.0;

impl Source {
    /// Begins to feed a table from `stream`, which is on, or goes on; returns what was saved. Begun in
    /// DynamoOnly, records are noted as lost: the stream may have been switched on after the first of them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_reverse(&self, table: &FedTable, stream: &str) -> Result<HashMap<String, Saved>> {
        let (name, doing) =
            (table.binding.name(), format!("opening the reverse feed of {}", table.binding.name()));
        let mut transaction = self.begin(&doing).await?;
        let before: Option<String> =
            sql::query_scalar("SELECT stream FROM lockstep.reverse_tables WHERE table_name = $1 FOR UPDATE")
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await
                .doing(&doing)?;
        sql::query(
            "INSERT INTO lockstep.reverse_tables (table_name, stream) VALUES ($1, $2)
             ON CONFLICT (table_name) DO UPDATE SET stream = excluded.stream",
        )
        .bind(name)
        .bind(stream)
        .execute(&mut *transaction)
        .await
        .doing(&doing)?;
        let why = match before {
            Some(before) if before != stream => {
                sql::query("DELETE FROM lockstep.reverse_shards WHERE table_name = $1")
                    .bind(name)
                    .execute(&mut *transaction)
                    .await
                    .doing(&doing)?;
                Some("the stream was ended and begun again")
            }
            // The stream may be as new as this row: what was written since the step is not in it.
            None => Some("the feed was begun only after the step to DynamoOnly"),
            Some(_) => unseen_s(&mut transaction, name, &doing)
                .await?
                .filter(|s| *s > UNSEEN_MAX_S)
                .map(|_| "the feed did not run for about as long as the stream keeps records"),
        };
        if let Some(why) = why {
            lose(&mut transaction, name, why).await?;
        }
        clean_up(&mut transaction, name).await?;
        let saved: Vec<(String, Option<String>, bool)> = sql::query_as(
            "SELECT shard, position, finished FROM lockstep.reverse_shards WHERE table_name = $1",
        )
        .bind(name)
        .fetch_all(&mut *transaction)
        .await
        .doing(&doing)?;
        transaction.commit().await.doing(&doing)?;
        Ok(saved
            .into_iter()
            .map(|(shard, position, finished)| (shard, Saved { position, finished }))
            .collect())
    }

    /// Notes that records of a shard went before they were read, and forgets its position.
    ///
    /// In phases before DynamoOnly nothing in the stream is news to the source, so nothing is lost then.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn lose_reverse(&self, name: &str, shard: &str, why: &str) -> Result<()> {
        let doing = format!("noting lost records of {name}");
        let mut transaction = self.begin(&doing).await?;
        sql::query("DELETE FROM lockstep.reverse_shards WHERE table_name = $1 AND shard = $2")
            .bind(name)
            .bind(shard)
            .execute(&mut *transaction)
            .await
            .doing(&doing)?;
        lose(&mut transaction, name, why).await?;
        transaction.commit().await.doing(&doing)
    }

    /// Notes that a shard has been looked at and had nothing more, without moving its position.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn touch_reverse(&self, name: &str, shard: &str) -> Result<()> {
        sql::query(
            "INSERT INTO lockstep.reverse_shards (table_name, shard, empty_at)
                VALUES ($1, $2, pg_catalog.clock_timestamp())
             ON CONFLICT (table_name, shard) DO UPDATE SET empty_at = excluded.empty_at",
        )
        .bind(name)
        .bind(shard)
        .execute(self.pool())
        .await
        .doing("noting that a shard is read")
        .map(drop)
    }

    /// Notes the same of many shards, of any tables, in one statement, each with its own time. Shards that
    /// PostgreSQL does not know are returned, for [`Source::touch_reverse`]: one that was taken out meanwhile
    /// must not come back by a note that is late. A shard whose page is being taken is left out, for that
    /// says more; to wait for it could be to wait in a circle.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// All are noted, or none is.
    #[crate::boxed]
    pub async fn touch_reverse_together(&self, touched: &[Touched]) -> Result<Vec<(String, String)>> {
        let tables: Vec<&str> = touched.iter().map(|one| one.table).collect();
        let shards: Vec<&str> = touched.iter().map(|one| one.shard.as_str()).collect();
        let ages_s: Vec<f64> = touched.iter().map(|one| one.at.elapsed().as_secs_f64()).collect();
        sql::query_as(
            "WITH asked AS MATERIALIZED (
                 SELECT table_name, shard,
                     pg_catalog.clock_timestamp() - age_s * interval '1 second' AS seen_at
                 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                     pg_catalog.unnest($3::float8[])) AS listed (table_name, shard, age_s)),
             free AS MATERIALIZED (
                 SELECT s.table_name, s.shard, asked.seen_at
                 FROM lockstep.reverse_shards s JOIN asked USING (table_name, shard)
                 FOR UPDATE OF s SKIP LOCKED),
             noted AS (
                 UPDATE lockstep.reverse_shards s SET empty_at = free.seen_at
                 FROM free WHERE s.table_name = free.table_name AND s.shard = free.shard)
             SELECT asked.table_name, asked.shard FROM asked WHERE NOT EXISTS (
                 SELECT FROM lockstep.reverse_shards s
                 WHERE s.table_name = asked.table_name AND s.shard = asked.shard)",
        )
        .bind(tables)
        .bind(shards)
        .bind(ages_s)
        .fetch_all(self.pool())
        .await
        .doing("noting that shards are read")
    }

    /// Takes back the note of lost records, and `foreign` changes that were counted, once a reverse backfill
    /// that began at `begun`, after them, has read the whole target.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn take_back_loss(&self, name: &str, begun: DateTime<Utc>, foreign: i64) -> Result<()> {
        sql::query(
            "UPDATE lockstep.reverse_tables SET lost_why = CASE WHEN lost_at <= $2 THEN NULL ELSE lost_why END,
                 lost_at = CASE WHEN lost_at <= $2 THEN NULL ELSE lost_at END, foreign_count = greatest(0, foreign_count - $3)
             WHERE table_name = $1",
        )
        .bind(name)
        .bind(begun)
        .bind(foreign)
        .execute(self.pool())
        .await
        .doing("taking back the note of lost records")
        .map(drop)
    }
}

/// Time in seconds for which no feed has looked at a table's stream: since the last sign of life, or since
/// DynamoOnly began.
///
/// Between the end of every shard and the first look at those that follow none is open. 1. DynamoOnly lasts
/// for two days, and the one shard rolls over. 2. A step, or a feed that begins again, opens the stream
/// before the child is listed. 3. By DynamoOnly's beginning alone, no feed would have run for two days.
async fn unseen_s(connection: &mut sqlx::PgConnection, name: &str, doing: &str) -> Result<Option<f64>> {
    let sql = format!(
        "SELECT extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(
             (SELECT pg_catalog.min({seen_at}) FROM lockstep.reverse_shards
                 WHERE table_name = $1 AND NOT finished),
             greatest(
                 (SELECT pg_catalog.max({seen_at}) FROM lockstep.reverse_shards
                     WHERE table_name = $1 AND finished),
                 (SELECT changed_at FROM lockstep.control))))::float8",
        seen_at = shard_seen_at()
    );
    sql::query_scalar(AssertSqlSafe(sql)).bind(name).fetch_one(connection).await.doing(doing)
}

/// Ends what was wrong with the way back of tables, inside `transaction`, which makes the source the truth.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn end_losses(transaction: &mut sqlx::PgConnection, names: &[&str]) -> Result<()> {
    let sql = format!("{END_LOSSES} AND table_name = ANY ($1)");
    let ended = sql::query(AssertSqlSafe(sql)).bind(names).execute(transaction).await;
    ended.doing("ending what was wrong with the way back").map(drop)
}

/// Ends what was wrong with the way back of every table, to be narrowed.
const END_LOSSES: &str = "UPDATE lockstep.reverse_tables
    SET lost_at = NULL, lost_why = NULL, foreign_count = 0, foreign_why = NULL
    WHERE (lost_at IS NOT NULL OR foreign_count > 0)";

/// Takes out what is of no use any more: versions of earlier epochs, shards that no stream lists any longer,
/// and, where the source decides again, whatever was wrong with the way back.
async fn clean_up(connection: &mut sqlx::PgConnection, name: &str) -> Result<()> {
    let frozen = Phase::DynamoOnly.name();
    for sql in [
        format!(
            // In DynamoOnly also what rode along is there under its old version, to be compared before the
            // way back.
            "DELETE FROM lockstep.reverse_places WHERE table_name = $1
                 AND version < (SELECT epoch << {EPOCH_SHIFT} FROM lockstep.control WHERE phase <> '{frozen}')"
        ),
        "DELETE FROM lockstep.reverse_shards WHERE table_name = $1 AND finished
             AND greatest(newest_at, empty_at) < pg_catalog.clock_timestamp() - interval '2 days'"
            .to_owned(),
        format!(
            "DELETE FROM lockstep.reverse_again WHERE table_name = $1 AND NOT EXISTS (SELECT FROM lockstep.control WHERE phase = '{frozen}')"
        ),
        format!(
            "{END_LOSSES} AND table_name = $1
                 AND NOT EXISTS (SELECT FROM lockstep.control WHERE phase = '{frozen}')"
        ),
    ] {
        let tidied = sql::query(AssertSqlSafe(sql)).bind(name).execute(&mut *connection).await;
        tidied.doing("tidying the reverse feed")?;
    }
    Ok(())
}

/// Notes that writes are missing where an item went of which neither its attributes nor what is remembered
/// tell the row. 1. Row and item are of before DynamoOnly. 2. A program writes the attributes of another row,
/// or none of ours, into the item. 3. An application deletes it. 4. The row stays, and nothing compares it:
/// after the way back it is there again.
pub(super) async fn lose_disowned(
    connection: &mut sqlx::PgConnection,
    name: &str,
    places: &[String],
) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.unnest($2::text[]) AS asked WHERE NOT EXISTS
             (SELECT FROM lockstep.reverse_places p WHERE p.table_name = $1 AND {} = {}))",
        text_digest_sql("p.place"),
        text_digest_sql("asked"),
    );
    let is_unknown: bool = sql::query_scalar(AssertSqlSafe(sql))
        .bind(name)
        .bind(places)
        .fetch_one(&mut *connection)
        .await
        .doing("looking up items that went")?;
    match is_unknown {
        true => lose(connection, name, DISOWNED).await,
        false => Ok(()),
    }
}

/// Reason why writes are missing after such an item went.
pub(super) const DISOWNED: &str =
    "an item was deleted whose attributes, which another program wrote, do not tell its row";

/// Notes in a transaction that writes of DynamoOnly are missing from a table, and why; in other phases none
/// can be.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn lose(connection: &mut sqlx::PgConnection, name: &str, why: &str) -> Result<()> {
    let lost = sql::query(
        "UPDATE lockstep.reverse_tables SET lost_at = pg_catalog.clock_timestamp(), lost_why = $2
         WHERE table_name = $1 AND EXISTS (SELECT FROM lockstep.control WHERE phase = $3)",
    )
    .bind(name)
    .bind(why)
    .bind(Phase::DynamoOnly.name())
    .execute(&mut *connection)
    .await
    .doing("noting lost records")?;
    if lost.rows_affected() > 0 {
        withdraw_all(connection, name).await?;
        tracing::error!(table = name, "{why}: writes are missing from PostgreSQL; run {ReverseBackfill}");
    }
    Ok(())
}
