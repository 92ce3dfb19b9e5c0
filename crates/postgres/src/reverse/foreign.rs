//! Items with a version of an epoch that the source has never begun.
//!
//! Either the source was set back, and then the feed has to stop: 1. DynamoOnly is begun again, in an epoch
//! that the source forgets. 2. Its writes are read, and passed over. 3. The way back is taken without them.
//! Or another program chose the number, and then there is nothing to wait for. Which of both it is, the
//! caller finds out, by the marks of history and the target's control record. The item stays the truth: it
//! is noted, its row stays as it is, and the way back stays closed, until the item has a version of ours.

use lockstep_core::{Doing, Epoch, Result, Version};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Connection as _};

use super::accepted::WITHDRAWN;
use super::rows::is_about_the_row;
use crate::binding::text_digest_sql;
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, is_sayable, keys_sql};
use crate::sql;
use crate::{Source, TableBinding};

/// Reason for which such an item waits.
pub(super) const WHY: &str = "its version is of an epoch that never began, so another program wrote it";

/// An item to be set aside: place, version, and source key as SQL literals, where it is known.
pub(super) type Ahead = (String, Version, Option<Vec<String>>);

/// Notes items to be written again under a version of ours. What an operator has accepted was another state.
pub(super) async fn note_ahead(
    connection: &mut PgConnection,
    binding: &TableBinding,
    ahead: &[Ahead],
) -> Result<()> {
    for (place, version, key) in ahead {
        let doing = "noting an item of an unknown epoch";
        let mut savepoint = connection.begin().await.doing(doing)?;
        let sayable = key.as_ref().filter(|key| is_sayable(key));
        match note(&mut savepoint, binding, (place, *version), sayable).await {
            Ok(()) => savepoint.commit().await.doing(doing)?,
            // The place says enough to find it.
            Err(error) if is_about_the_row(&error) => {
                savepoint.rollback().await.doing(doing)?;
                note(connection, binding, (place, *version), None).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn note(
    connection: &mut PgConnection,
    binding: &TableBinding,
    (place, version): (&str, Version),
    key: Option<&Vec<String>>,
) -> Result<()> {
    let doing = "noting an item of an unknown epoch";
    let of_key = match key {
        Some(_) => format!("SELECT k.key FROM {} AS k", keys_sql(binding, 5)),
        None => "SELECT NULL::jsonb AS key".to_owned(),
    };
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, for_good,
             foreign_version, version)
         SELECT $1, $2, of.key, $3, true, true, $4 FROM ({of_key}) AS of
         ON CONFLICT (table_name, {}) DO UPDATE SET why = excluded.why, for_good = true, foreign_version = true,
             key = coalesce(excluded.key, a.key), version = excluded.version, removed = false, {WITHDRAWN}",
        text_digest_sql("place"),
    );
    let mut arguments = PgArguments::default();
    let added = arguments
        .add(binding.name())
        .and_then(|()| arguments.add(place))
        .and_then(|()| arguments.add(WHY))
        .and_then(|()| arguments.add(version.0));
    added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    if let Some(key) = key {
        bind_keys(&mut arguments, binding, std::iter::once((0, key)))?;
    }
    sql::query_with(AssertSqlSafe(sql), arguments).execute(connection).await.doing(doing).map(drop)
}

impl Source {
    /// Up to `limit` places of items that were set aside for their version, as
    /// [`place`](lockstep_core::place) prints them, in their order, after `after`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn foreign_versions(&self, name: &str, after: Option<&str>, limit: i64) -> Result<Vec<String>> {
        sql::query_scalar(
            "SELECT place FROM lockstep.reverse_again
             WHERE table_name = $1 AND foreign_version AND ($2::text IS NULL OR place > $2)
             ORDER BY place LIMIT $3",
        )
        .bind(name)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .doing("listing items with versions of others")
    }

    /// Forgets versions of items that are of epochs above `begun`, so that a lower one is news again; the row
    /// and key that they are of stay known.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It may be repeated.
    pub async fn forget_above(&self, name: &str, places: &[String], begun: Epoch) -> Result<()> {
        let sql = format!(
            "UPDATE lockstep.reverse_places SET version = 0 WHERE table_name = $1 AND version >= $3
                 AND {} = ANY (ARRAY(SELECT {} FROM pg_catalog.unnest($2::text[]) AS asked))",
            text_digest_sql("place"),
            text_digest_sql("asked"),
        );
        sql::query(AssertSqlSafe(sql))
            .bind(name)
            .bind(places)
            .bind(Epoch(begun.0 + 1).floor())
            .execute(self.pool())
            .await
            .doing("forgetting versions of others")
            .map(drop)
    }

    /// Takes out notes of items that have no version of another program any more, while the source is the
    /// truth: the key of each is marked as pending, so that the relay puts its row there. Returns how many.
    ///
    /// # Errors
    /// [`Kind::Busy`](lockstep_core::Kind) when write transactions stayed open for too long;
    /// [`Kind::Refused`](lockstep_core::Kind) in DynamoOnly.
    ///
    /// # Cancel safety
    /// All of it is done, or nothing.
    pub async fn mark_foreign(&self, binding: &TableBinding, places: &[String]) -> Result<u64> {
        let doing = "marking keys of items with versions of others";
        // Alone, because a fresh version is ordered with no writer in flight: see `repair.rs`.
        let mut transaction = self.begin_marking().await?;
        let sql = format!(
            "WITH gone AS (
                 DELETE FROM lockstep.reverse_again WHERE table_name = $1 AND foreign_version
                     AND {} = ANY (ARRAY(SELECT {} FROM pg_catalog.unnest($2::text[]) AS asked))
                 RETURNING key)
             INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT $1, key, pg_catalog.nextval('lockstep.version_seq')
             FROM (SELECT DISTINCT key FROM gone WHERE key IS NOT NULL) AS keys
             ON CONFLICT (table_name, {}) DO UPDATE SET version = greatest(p.version, excluded.version)",
            text_digest_sql("place"),
            text_digest_sql("asked"),
            crate::binding::digest_sql("key"),
        );
        let done = sql::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(places)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(done.rows_affected())
    }

    /// Notes that the feed of a table stands still, and why; the next page that is taken ends it.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It may be repeated.
    pub async fn stop_reverse(&self, name: &str, why: &str) -> Result<()> {
        sql::query(
            "UPDATE lockstep.reverse_tables SET stopped_why = $2,
                 stopped_at = coalesce(stopped_at, pg_catalog.clock_timestamp()) WHERE table_name = $1",
        )
        .bind(name)
        .bind(why)
        .execute(self.pool())
        .await
        .doing("noting that a feed stands still")
        .map(drop)
    }
}
