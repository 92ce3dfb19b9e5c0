//! Places at which the target holds nothing, for a reverse backfill.
//!
//! An item that went without a tombstone is told of by the stream alone, and records are lost. 1. The feed
//! has taken version 7 of row 5, and is off for a day. 2. The item expires, and its record is trimmed. 3. The
//! 7 stays known, and whatever comes to the empty place begins below it. So such a version is forgotten.
//!
//! And a row there is retention only where it has expired. 1. The feed is off for a day. 2. An application
//! brings the expiry of row 5 forward from next year, and DynamoDB removes the item; or a tombstone expires
//! that has deleted it. 3. Left as it is, the row is the truth again after the way back: it has come back to
//! life, or lives on for a year. So such a row is noted, and holds up the way back until an operator has
//! decided about it.

use lockstep_core::{Doing, Phase, Result};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use super::accepted::{WITHDRAWN, noted};
use super::feeding::finish_feeding;
use super::items::{GoneRow, dead_letters_among};
use crate::Source;
use crate::binding::text_digest_sql;
use crate::fault::of_sqlx;
use crate::lookup::{bind_key_columns, with_keys_sql};
use crate::sql;

/// Reason for which a row without an item waits.
pub(super) const WITHOUT_ITEM: &str =
    "it has no item, and PostgreSQL has a row of it that has not expired: no record is left that tells why";

/// A place of which a version is known.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct KnownPlace {
    /// Key of the item, as [`place`](lockstep_core::place) prints it.
    pub place: String,
    /// The version.
    version: i64,
}

impl Source {
    /// Up to `limit` places of which a version is known, in the order of their digests, after `after`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn known_places(&self, name: &str, after: Option<&str>, limit: i64) -> Result<Vec<KnownPlace>> {
        let digest = text_digest_sql("place");
        let sql = format!(
            "SELECT place, version FROM lockstep.reverse_places
             WHERE table_name = $1 AND ($2::text IS NULL OR {digest} > {}) ORDER BY {digest} LIMIT $3",
            text_digest_sql("$2::text"),
        );
        sql::query_as(AssertSqlSafe(sql))
            .bind(name)
            .bind(after)
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .doing("listing places of which versions are known")
    }

    /// Forgets what is known of places that were listed first, and then seen to hold nothing, but for those
    /// of which more is known by now: of what came between, the feed knows. Only while the target is the
    /// truth.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    ///
    /// # Cancel safety
    /// All of it is done, or nothing.
    pub async fn forget_emptied(&self, table: &FedTable, emptied: &[KnownPlace]) -> Result<u64> {
        let (mut transaction, epochs, _) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            return Ok(0);
        }
        let name = table.binding.name();
        let sql = format!(
            "DELETE FROM lockstep.reverse_places p
             USING ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]))
                 AS seen (place, version)
             WHERE p.table_name = $1 AND {} = {} AND p.version = seen.version",
            text_digest_sql("p.place"),
            text_digest_sql("seen.place"),
        );
        let forgotten = sql::query(AssertSqlSafe(sql))
            .bind(name)
            .bind(emptied.iter().map(|known| known.place.as_str()).collect::<Vec<_>>())
            .bind(emptied.iter().map(|known| known.version).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .doing("forgetting versions of places that hold nothing")?
            .rows_affected();
        finish_feeding(transaction, name).await?;
        Ok(forgotten)
    }

    /// Notes rows that have not expired and have no item, while the target is the truth; returns how many of
    /// them are none that PostgreSQL alone has, as it does a dead letter of before.
    ///
    /// # Errors
    /// As [`Source::apply_items`].
    ///
    /// # Cancel safety
    /// All of it is done, or nothing.
    pub async fn note_absent(&self, table: &FedTable, absent: &[GoneRow]) -> Result<u64> {
        let (mut transaction, epochs, _) = self.begin_feeding(table).await?;
        if epochs.now.phase != Phase::DynamoOnly {
            return Ok(0);
        }
        let (name, doing) = (table.binding.name(), "noting rows without items");
        let all: Vec<&GoneRow> = absent.iter().collect();
        let letters = dead_letters_among(&mut transaction, table, &all).await?;
        let held: Vec<&GoneRow> =
            all.into_iter().enumerate().filter(|(n, _)| !letters.contains(n)).map(|(_, row)| row).collect();
        if held.is_empty() {
            return Ok(0);
        }
        // A note of a state of the item stays, and so does what was accepted of it. One of no state, or of a
        // version of another program, would go with the item.
        let sql = format!(
            "INSERT INTO lockstep.reverse_again AS a (table_name, place, key, why, version)
             SELECT $1, k.place, k.key, '{WITHOUT_ITEM}', {none} FROM {keys} AS k ORDER BY k.place
             ON CONFLICT (table_name, {digest}) DO UPDATE SET why = excluded.why,
                 key = coalesce(a.key, excluded.key), version = excluded.version, removed = false,
                 foreign_version = false, {WITHDRAWN}
             WHERE a.version IS NULL OR a.foreign_version",
            none = noted(None),
            keys = with_keys_sql(&table.binding, 2, &[("place", "text")]),
            digest = text_digest_sql("place"),
        );
        let mut arguments = PgArguments::default();
        let added = arguments
            .add(name)
            .and_then(|()| arguments.add(held.iter().map(|row| row.place.as_str()).collect::<Vec<_>>()));
        added.map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
        bind_key_columns(&mut arguments, &table.binding, held.iter().map(|row| &row.key))?;
        sql::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await.doing(doing)?;
        finish_feeding(transaction, name).await?;
        Ok(held.len() as u64)
    }
}
