//! Dead letters: rows that can never be written as they are (R13). They block no other row, and no verdict
//! overlooks them.
//!
//! On the way back they are items that PostgreSQL can never hold, and those that it would not have for five
//! minutes: what their rows wait for (a row that they refer to, a unique value) need never come. The reverse
//! feed keeps both, and reads them again in case they change (`reverse_again`).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Fields, Kind, Result, SourceKey, Version};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::binding::{digest_sql, quote_literal};
use super::clock::is_past;
use super::page::Unreadable;
use super::{KeyBound, Source, TableBinding};
use crate::sql;

/// Time for which an item of the way back is tried before it counts.
const GIVEN_UP_AFTER: &str = "interval '5 minutes'";

/// The condition that note `a` of the way back is a dead letter. By `to_jsonb`: commands that only read also
/// read the schema of an older Lockstep, which has no such column.
pub(crate) fn is_letter_sql() -> String {
    let is_given_up = is_past("found_at", GIVEN_UP_AFTER);
    format!("({is_given_up} OR (pg_catalog.to_jsonb(a) ->> 'for_good')::boolean)")
}

/// Statement that counts the dead letters of table `$1`, and those of them that no operator has acknowledged.
pub(crate) fn count_sql() -> String {
    format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE acknowledged_at IS NULL)
         FROM (SELECT acknowledged_at FROM lockstep.dead_letters WHERE table_name = $1
               UNION ALL SELECT (pg_catalog.to_jsonb(a) ->> 'acknowledged_at')::timestamptz
                   FROM lockstep.reverse_again a
                   WHERE table_name = $1
                       AND {}) AS letters",
        is_letter_sql()
    )
}

/// A row that was set aside.
#[derive(Clone, Debug, sqlx_macros::FromRow, serde::Serialize)]
pub struct DeadLetter {
    /// The table.
    pub table_name: String,
    /// The source key, as JSON text; of an item that has none, its place.
    pub key: String,
    /// The version of the state that could not be written.
    pub version: i64,
    /// Stage that found it: `backfill`, `relay` or `reverse-feed`.
    pub stage: String,
    /// Reason why it cannot be moved, without values.
    pub reason: String,
    /// Time at which it was found.
    pub found_at: DateTime<Utc>,
    /// Number of tries.
    pub attempts: i32,
    /// Whether an operator has accepted that it stays behind, and when.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Operator who acknowledged it.
    pub acknowledged_by: Option<String>,
}

/// Expression that tells a state of row `s` from every other: each change makes a row elsewhere, or by
/// another transaction.
const STATE: &str = "(s.xmin::text || s.ctid::text)";
/// Number of times that a row may move between being read and being set aside. Only writers and `VACUUM FULL`
/// move one.
const SET_ASIDE_TRIES: u32 = 20;

const LISTING: &str = "listing dead letters";

/// Returns the dead letters of a table, as [`Source::dead_letters`] does. By `to_jsonb`, as [`is_letter_sql`].
pub(crate) async fn letters(
    connection: &mut PgConnection,
    table: &str,
    limit: i64,
) -> Result<Vec<DeadLetter>> {
    let sql = format!(
        "SELECT table_name, CASE WHEN {long} THEN pg_catalog.left(key::text, {KEY_CHARS_SHOWN}) || '…'
                                 ELSE key::text END AS key,
             version, stage, reason, found_at, attempts, acknowledged_at, acknowledged_by
         FROM lockstep.dead_letters WHERE table_name = $1
         UNION ALL SELECT table_name, coalesce(key::text, place), 0, 'reverse-feed', why, found_at, (1 + tries)::int,
                          (pg_catalog.to_jsonb(a) ->> 'acknowledged_at')::timestamptz AS acknowledged_at,
                              pg_catalog.to_jsonb(a) ->> 'acknowledged_by'
         FROM lockstep.reverse_again a WHERE table_name = $1
             AND {}
         ORDER BY acknowledged_at NULLS FIRST, found_at, key LIMIT $2",
        is_letter_sql(),
        long = format_args!("{} > {KEY_CHARS_SHOWN}", super::page::key_bytes_sql("key")),
    );
    sql::query_as(AssertSqlSafe(sql)).bind(table).bind(limit).fetch_all(connection).await.doing(LISTING)
}

/// Tells whether a row, whose columns come after one of ours, is what was read before.
fn is_as_read(row: &PgRow, tuple: &[u8], columns: usize) -> bool {
    let mut read = Fields::of_copy(tuple);
    Fields::of_query(row, 1, |now| {
        (0..columns).all(|_| matches!((read.next(), now.next()), (Ok(before), Ok(after)) if before == after))
    })
}

/// Characters of a key that are shown; a mark that a role made may have a key of any length.
const KEY_CHARS_SHOWN: i32 = 8_192;

/// Clause for a row that is a dead letter already.
const SET_ASIDE: &str = "DO UPDATE SET
    version = greatest(x.version, excluded.version), stage = excluded.stage, reason = excluded.reason,
    attempts = x.attempts + 1, found_at = pg_catalog.clock_timestamp(), acknowledged_at = NULL,
        acknowledged_by = NULL";

impl Source {
    /// Sets aside a row of the backfill, if it still is as it was read: `tuple` is what
    /// [`CopyChunk::row`](super::CopyChunk::row) gave. Says whether it is set aside. A row that was changed
    /// or deleted since was captured, and is the relay's. Or else:
    /// 1. The backfill reads a row that cannot be held.
    /// 2. It is repaired, and a relay delivers it.
    /// 3. It is set aside all the same, and once the dead letter is acknowledged, no comparison speaks of
    ///    that key any more.
    ///
    /// A row that is set aside already stays as it is, acknowledgement included: a chunk may be read twice.
    ///
    /// # Errors
    /// The driver's; [`Kind::Busy`] for a row that was written at every try.
    #[crate::boxed]
    pub async fn set_aside_initial_load(
        &self,
        binding: &TableBinding,
        primary_key: &KeyBound,
        tuple: &[u8],
        reason: &str,
    ) -> Result<bool> {
        let doing = "setting a row aside";
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals =
            primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal)));
        let relation = binding.relation.sql();
        let this_row = format!("({}) = ({})", binding.primary_key_sql("s"), super::binding::list(literals));
        let read =
            format!("SELECT {STATE}, {} FROM {relation} AS s WHERE {this_row}", binding.columns_sql("s"));
        let insert = format!(
            "WITH found AS (SELECT {key} AS key FROM {relation} AS s WHERE {this_row} AND {STATE} = $4),
             aside AS (INSERT INTO lockstep.dead_letters AS x (table_name, key, version, stage, reason)
                       SELECT $1, key, $2, 'backfill', $3 FROM found ON CONFLICT (table_name, {digest}) DO NOTHING)
             SELECT pg_catalog.count(*) FROM found",
            key = binding.key_sql("s"),
            digest = digest_sql("key"),
        );
        for _ in 0..SET_ASIDE_TRIES {
            let row = sql::query(AssertSqlSafe(read.clone()))
                .persistent(false)
                .fetch_optional(self.pool())
                .await
                .doing(doing)?;
            let Some(row) = row.filter(|row| is_as_read(row, tuple, binding.table.columns().len())) else {
                return Ok(false);
            };
            let found: i64 = sql::query_scalar(AssertSqlSafe(insert.clone()))
                .persistent(false)
                .bind(binding.name())
                .bind(Version::INITIAL_LOAD.0)
                .bind(reason)
                // By its place: a table may have a `state` of its own.
                .bind(row.get::<String, _>(0))
                .fetch_one(self.pool())
                .await
                .doing(doing)?;
            if found > 0 {
                return Ok(true);
            }
        }
        Err(Error::source(
            Kind::Busy,
            doing,
            format!("a row of {} was written at every try; try again", binding.name()),
        ))
    }

    /// Moves a pending key to the dead letters, in one statement, unless it was marked again meanwhile. Says
    /// whether it was moved: a key that an application's transaction has locked is being marked again, and is
    /// not waited for.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn set_aside_pending(
        &self,
        table: &str,
        key: &SourceKey,
        version: Version,
        reason: &str,
    ) -> Result<bool> {
        let sql = format!(
            "WITH locked AS MATERIALIZED (
                 SELECT {of_key} AS digest FROM lockstep.pending
                 WHERE table_name = $1 AND {of_key} = {of_parameter} AND version <= $3 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM lockstep.pending p USING locked l WHERE p.table_name = $1 AND {of_mark} = l.digest RETURNING 1)
             INSERT INTO lockstep.dead_letters AS x (table_name, key, version, stage, reason)
             SELECT $1, $2::jsonb, $3, 'relay', $4 FROM gone ON CONFLICT (table_name, {of_key}) {SET_ASIDE}",
            of_key = digest_sql("key"),
            of_parameter = digest_sql("$2::jsonb"),
            of_mark = digest_sql("p.key"),
        );
        let done = sql::query(AssertSqlSafe(sql))
            .bind(table)
            .bind(key.to_json())
            .bind(version.0)
            .bind(reason)
            .execute(self.pool())
            .await
            .doing("setting a row aside")?;
        Ok(done.rows_affected() == 1)
    }

    /// Moves a mark that is not read, as [`Source::set_aside_pending`] moves one. Its key does not leave
    /// PostgreSQL: it may be of any length.
    pub(super) async fn set_aside_unread(&self, table: &str, mark: &Unreadable) -> Result<()> {
        let sql = format!(
            "WITH locked AS MATERIALIZED (
                 SELECT {of_key} AS digest FROM lockstep.pending
                 WHERE table_name = $1 AND {of_key} = $2 AND version <= $3 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM lockstep.pending p USING locked l
                 WHERE p.table_name = $1 AND {of_mark} = l.digest RETURNING p.key)
             INSERT INTO lockstep.dead_letters AS x (table_name, key, version, stage, reason)
             SELECT $1, gone.key, $3, 'relay', $4 FROM gone ON CONFLICT (table_name, {of_key}) {SET_ASIDE}",
            of_key = digest_sql("key"),
            of_mark = digest_sql("p.key"),
        );
        sql::query(AssertSqlSafe(sql))
            .bind(table)
            .bind(&mark.digest.0)
            .bind(mark.version.0)
            .bind(&mark.reason)
            .execute(self.pool())
            .await
            .doing("setting a mark aside")?;
        Ok(())
    }

    /// Returns the dead letters of a table, at most `limit`: those first that no operator has acknowledged, and
    /// of either the oldest.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn dead_letters(&self, table: &str, limit: i64) -> Result<Vec<DeadLetter>> {
        let mut connection = self.pool().acquire().await.doing(LISTING)?;
        letters(&mut connection, table, limit).await
    }

    /// Counts the dead letters of a table, and those of them that no operator has acknowledged.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count_dead_letters(&self, table: &str) -> Result<(i64, i64)> {
        sql::query_as(AssertSqlSafe(count_sql()))
            .bind(table)
            .fetch_one(self.pool())
            .await
            .doing("counting dead letters")
    }

    /// Marks every dead letter of a table as pending under a fresh version, so that the relay tries it again.
    ///
    /// # Errors
    /// [`Kind::Busy`] when write transactions stayed open for too long.
    #[crate::boxed]
    pub async fn retry_dead_letters(&self, table: &str) -> Result<u64> {
        // Alone, because a fresh version is ordered with no writer in flight: see `repair.rs`.
        let mut transaction = self.begin_marking().await?;
        let sql = format!(
            "INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT table_name, key, pg_catalog.nextval('lockstep.version_seq') FROM lockstep.dead_letters WHERE table_name = $1
             ON CONFLICT (table_name, {}) DO UPDATE SET version = greatest(p.version, excluded.version)",
            digest_sql("key")
        );
        let done = sql::query(AssertSqlSafe(sql))
            .bind(table)
            .execute(&mut *transaction)
            .await
            .doing("retrying dead letters")?;
        transaction.commit().await.doing("retrying dead letters")?;
        Ok(done.rows_affected())
    }
}
