//! Marking keys as pending from outside, so that the relay brings the target to what the source says (R17,
//! R27).
//!
//! A fresh version is ordered with the changes of writers only while there are none. 1. A writer changes a
//! row and takes version 11, but has not marked the key yet. 2. We mark at 12; a relay delivers the old state
//! at 12 and takes the mark out. 3. The writer marks at 11, commits, and its newer state is refused. So such
//! marks are made behind the closed barrier: every writer in flight has ended, and the next takes a higher
//! version.

use std::time::Duration;

use lockstep_core::Advice::ReverseBackfill;
use lockstep_core::{Doing, Error, Kind, Phase, Result, SourceKey};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::binding::digest_sql;
use super::lock_tries;
use super::lookup::{bind_keys, keys_sql};
use super::{Source, SourceTransaction, TableBinding, take_exclusive};
use crate::fault::of_sqlx;
use crate::read_control;
use crate::sql;

/// Longest wait for the barrier in one try: writers queue behind us for no longer.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
/// Most keys of one statement.
const KEYS_MAX: usize = 500;

impl Source {
    /// Marks source keys, given as one SQL literal a key column, as pending under fresh versions; returns how
    /// many. A key without a row becomes a tombstone.
    ///
    /// # Errors
    /// [`Kind::Busy`] when write transactions stayed open for too long; [`Kind::Refused`] in DynamoOnly.
    ///
    /// # Cancel safety
    /// Keys are marked some hundreds at a time; each time all of them are, or none.
    #[crate::boxed]
    pub async fn mark_for_repair(&self, binding: &TableBinding, keys: &[Vec<String>]) -> Result<u64> {
        let mut marked = 0;
        for keys in keys.chunks(KEYS_MAX) {
            let mut transaction = self.begin_marking().await?;
            marked += mark(&mut transaction, binding, keys).await?;
            transaction.commit().await.doing("marking keys for repair")?;
        }
        Ok(marked)
    }

    /// Source keys, given as one SQL literal a key column, as the pending set has them, in their order.
    ///
    /// # Errors
    /// The driver's; [`Kind::Invalid`] for a literal that is not of its column's type.
    #[crate::boxed]
    pub async fn source_keys(&self, binding: &TableBinding, keys: &[Vec<String>]) -> Result<Vec<SourceKey>> {
        let doing = "naming keys";
        let mut named = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_MAX) {
            let sql = format!("SELECT k.key::text FROM {} AS k ORDER BY k.n", keys_sql(binding, 1));
            let mut arguments = PgArguments::default();
            bind_keys(&mut arguments, binding, keys.iter().enumerate())?;
            let found: Vec<String> = sql::query_scalar_with(AssertSqlSafe(sql), arguments)
                .fetch_all(self.pool())
                .await
                .doing(doing)?;
            for key in found {
                named.push(
                    SourceKey::parse(&key).map_err(|e| Error::source(Kind::Invalid, doing, e.to_string()))?,
                );
            }
        }
        Ok(named)
    }

    /// Begins as [`Source::begin_alone`] does, where the source is the truth. In DynamoOnly a mark would have
    /// the relay put the row, which may be behind, over the truth.
    pub(super) async fn begin_marking(&self) -> Result<SourceTransaction> {
        // Marks are found by digests, which the schema of an older Lockstep has none of.
        self.migrate_schema().await?;
        let mut transaction = self.begin_alone().await?;
        let now = read_control(&mut transaction).await?;
        if now.phase == Phase::DynamoOnly {
            let message = format!(
                "the phase is DynamoOnly: DynamoDB is the truth, and rows follow it \
                through the reverse feed. To bring PostgreSQL to what it says, run \
                {ReverseBackfill}"
            );
            return Err(Error::source(Kind::Refused, "marking keys to be written again", message));
        }
        Ok(transaction)
    }

    /// Begins a transaction behind the closed barrier: no write transaction is in flight while it lasts.
    pub(super) async fn begin_alone(&self) -> Result<SourceTransaction> {
        let closed = || async {
            let mut transaction = self.begin("closing the barrier").await?;
            take_exclusive(&mut transaction, LOCK_TIMEOUT).await?;
            Ok(transaction)
        };
        lock_tries::BARRIER.repeat(closed).await
    }
}

/// Marks keys under fresh versions. `connection` is behind the closed barrier.
pub(super) async fn mark(
    connection: &mut PgConnection,
    binding: &TableBinding,
    keys: &[Vec<String>],
) -> Result<u64> {
    let mut marked = 0;
    for keys in keys.chunks(KEYS_MAX) {
        let sql = format!(
            "INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT $1, key, pg_catalog.nextval('lockstep.version_seq') FROM (SELECT DISTINCT k.key FROM {} AS k) AS d
             ON CONFLICT (table_name, {}) DO UPDATE SET version = excluded.version",
            keys_sql(binding, 2),
            digest_sql("key")
        );
        let doing = "marking keys for repair";
        let mut arguments = PgArguments::default();
        arguments.add(binding.name()).map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
        bind_keys(&mut arguments, binding, keys.iter().enumerate())?;
        let done =
            sql::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await.doing(doing)?;
        marked += done.rows_affected();
    }
    Ok(marked)
}
