//! Rows that ride along in the feed's transaction.
//!
//! 1. A foreign key between two moved tables says ON DELETE CASCADE. 2. In DynamoOnly an application deletes
//! the parent; DynamoDB cascades nothing, and the children live on. 3. The feed deletes the parent's row, and
//! PostgreSQL its children's. 4. The way back finds every item that the feed brought in its row; the
//! children's were never brought. PostgreSQL, the truth again, lacks rows that the truth had (I7). The same
//! with a trigger that writes another moved table.
//!
//! So the capture trigger notes each key that the feed did not write itself, in the same transaction, and its
//! item is read again. Which are these: keys of another table than the one that the transaction is about, and
//! those that a trigger writes. An action of a foreign key within one table is told from the feed's own
//! writes by nothing that a trigger sees, and so is a row whose key a BEFORE trigger has set; there all keys
//! are noted, and the feed takes its own out again.

use lockstep_core::{AnyRow, Doing, Error, Kind, Result, SourceKey, place};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, PgExecutor, Row as _};

use super::FedTable;
use super::accepted::WITHDRAWN;
use crate::Source;
use crate::binding::{digest_sql, text_digest_sql};
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, keys_sql};
use crate::sql;

/// Returns what the capture trigger does with keys that ride along; `name` is a literal. In it, `old_key` and
/// `new_key` are set as the operation has them.
pub(crate) fn note_riders_sql(name: &str) -> String {
    let note = |key: &str, made: bool| {
        format!(
            "INSERT INTO lockstep.reverse_riders (table_name, key, made) VALUES ({name}, {key}, {made})
             ON CONFLICT (table_name, {}) DO UPDATE SET noted_at = excluded.noted_at;",
            digest_sql("key")
        )
    };
    format!(
        "IF old_key IS NOT NULL THEN {} END IF;
         IF new_key IS NOT NULL AND new_key IS DISTINCT FROM old_key THEN {} END IF;",
        note("old_key", false),
        note("new_key", true)
    )
}

/// Takes out what was noted of rows that the feed has written itself, under the text of the key that it
/// wrote.
///
/// 1. An item comes under `1 month`, which PostgreSQL prints `1 mon`. 2. It is written over the row of the
/// item `1 mon`, whose key is noted. 3. Both print the same, and the note is not of a row of its own.
pub(super) async fn forget_riders(
    connection: &mut PgConnection,
    table: &FedTable,
    rows: &[&dyn AnyRow],
) -> Result<()> {
    let doing = "telling own rows from others";
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        keys.push(row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?);
    }
    let sql = format!(
        "DELETE FROM lockstep.reverse_riders r USING {} AS k WHERE r.table_name = $1 AND {} = {}
         RETURNING k.n, r.key::text",
        keys_sql(&table.binding, 2),
        digest_sql("r.key"),
        digest_sql("k.key"),
    );
    let mut arguments = PgArguments::default();
    arguments.add(table.binding.name()).map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
    bind_keys(&mut arguments, &table.binding, keys.iter().enumerate())?;
    let own: Vec<(i32, String)> =
        sql::query_as_with(AssertSqlSafe(sql), arguments).fetch_all(&mut *connection).await.doing(doing)?;
    if !table.has_loose_key {
        return Ok(());
    }
    let is_own = |(n, printed): &(i32, String)| {
        let printed = SourceKey::parse(printed).and_then(|key| table.binding.table.literals_of_key(&key));
        printed.is_ok_and(|printed| keys.get(*n as usize) == Some(&printed))
    };
    let others: Vec<&String> = own.iter().filter(|own| !is_own(own)).map(|(_, printed)| printed).collect();
    if others.is_empty() {
        return Ok(());
    }
    sql::query(AssertSqlSafe(format!(
        "INSERT INTO lockstep.reverse_riders (table_name, key, made)
         SELECT DISTINCT $1, key, false FROM pg_catalog.unnest($2::text[]::jsonb[]) AS noted (key)
         ON CONFLICT (table_name, {}) DO UPDATE SET noted_at = excluded.noted_at",
        digest_sql("key"),
    )))
    .bind(table.binding.name())
    .bind(others)
    .execute(connection)
    .await
    .doing(doing)
    .map(drop)
}

impl Source {
    /// Notes the items of rows that rode along to be read again, up to `limit`; returns how many rows there
    /// were.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// A row is noted in one of both ways at each moment.
    #[crate::boxed]
    pub async fn take_riders(&self, table: &FedTable, limit: i64) -> Result<u64> {
        let (name, doing) = (table.binding.name(), "noting items of rows that rode along");
        let mut transaction = self.begin(doing).await?;
        let sql = format!(
            "DELETE FROM lockstep.reverse_riders r USING (
                 SELECT {of_key} AS digest FROM lockstep.reverse_riders WHERE table_name = $1 LIMIT $2) AS
                     taken
             WHERE r.table_name = $1 AND {of_rider} = taken.digest RETURNING r.key::text AS key, r.made",
            of_key = digest_sql("key"),
            of_rider = digest_sql("r.key"),
        );
        let riders = sql::query(AssertSqlSafe(sql))
            .bind(name)
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await
            .doing(doing)?;
        for rider in &riders {
            let text: String = rider.get("key");
            let key = SourceKey::parse(&text)
                .map_err(|error| Error::source(Kind::Invalid, doing, error.to_string()))?;
            let Ok(at) = table.binding.table.target_key(&key) else {
                // No item can be of it, so DynamoDB never had the row and the way back misses none.
                // Acknowledged as a dead letter it stays as PostgreSQL has it.
                tracing::warn!(
                    table = name,
                    "a row that no item can hold was changed by a trigger or a cascade"
                );
                continue;
            };
            note(&mut transaction, name, &place(&at.to_attributes()), &text, rider.get("made")).await?;
        }
        transaction.commit().await.doing(doing)?;
        Ok(riders.len() as u64)
    }

    /// Counts the rows of a table that rode along and are not noted to be read again yet.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn riders(&self, name: &str) -> Result<i64> {
        sql::query_scalar("SELECT pg_catalog.count(*) FROM lockstep.reverse_riders WHERE table_name = $1")
            .bind(name)
            .fetch_one(self.pool())
            .await
            .doing("counting rows that rode along")
    }

    /// Counts what is left to be read again, of these tables at one moment. Table by table it could be
    /// missed: an item of one that is done drags rows of another along.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn reverse_left(&self, names: &[&str]) -> Result<i64> {
        left(self.pool(), names, false, "counting what is to be read again").await
    }
}

/// Counts the rows of these tables that rode along and are not what their items say yet, as `connection`'s
/// transaction sees it.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn ridden_left(connection: &mut PgConnection, names: &[&str]) -> Result<i64> {
    left(connection, names, true, "counting rows that rode along").await
}

/// Counts what is left to be read again, or, of it, what rode along. One statement: one snapshot, in which a
/// row that [`Source::take_riders`] moves from one table to the other is in exactly one of them.
async fn left(
    executor: impl PgExecutor<'_>,
    names: &[&str],
    ridden_only: bool,
    doing: &'static str,
) -> Result<i64> {
    sql::query_scalar(
        "SELECT (SELECT pg_catalog.count(*) FROM lockstep.reverse_riders WHERE table_name = ANY ($1))
              + (SELECT pg_catalog.count(*) FROM lockstep.reverse_again
                 WHERE table_name = ANY ($1) AND (ridden OR NOT $2) AND acknowledged_at IS NULL)",
    )
    .bind(names)
    .bind(ridden_only)
    .fetch_one(executor)
    .await
    .doing(doing)
}

/// Notes the item of a row that rode along. An operator may have accepted that PostgreSQL keeps the row, and
/// the row has just changed, or gone.
async fn note(connection: &mut PgConnection, name: &str, place: &str, key: &str, made: bool) -> Result<()> {
    let sql = format!(
        "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, ridden, made)
         VALUES ($1, $2, $3::text::jsonb, 'a cascade or a trigger of the application has changed its row',
             true, $4)
         ON CONFLICT (table_name, {}) DO UPDATE SET ridden = true, key = coalesce(a.key, excluded.key),
             made = a.made OR excluded.made, {WITHDRAWN}",
        text_digest_sql("place"),
    );
    sql::query(AssertSqlSafe(sql))
        .bind(name)
        .bind(place)
        .bind(key)
        .bind(made)
        .execute(connection)
        .await
        .doing("noting an item of a row that rode along")
        .map(drop)
}
