//! Dead letters: rows that can never be written as they are (R13). They block nobody, and no verdict overlooks them.

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;

use super::binding::quote_literal;
use super::{KeyBound, Source, TableBinding};

/// A row that was set aside.
#[derive(Clone, Debug, sqlx::FromRow, serde::Serialize)]
pub struct DeadLetter {
    /// The table.
    pub table_name: String,
    /// The source key, as JSON text.
    pub key: String,
    /// The version of the state that could not be written.
    pub version: i64,
    /// Where it was found: `backfill` or `relay`.
    pub stage: String,
    /// Why, without values.
    pub reason: String,
    /// When.
    pub found_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: i32,
    /// Whether an operator has accepted that it stays behind, and when.
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who.
    pub acknowledged_by: Option<String>,
}

const SET_ASIDE: &str = "ON CONFLICT (table_name, key) DO UPDATE SET
    version = greatest(x.version, excluded.version), stage = excluded.stage, reason = excluded.reason,
    attempts = x.attempts + 1, found_at = clock_timestamp(), acknowledged_at = NULL, acknowledged_by = NULL";

impl Source {
    /// Sets aside a row of the backfill. The row is named by its primary key; if it is gone by now, nothing happens,
    /// because its deletion was captured. A row that is set aside already stays as it is, acknowledgement included: a chunk
    /// may be read twice.
    ///
    /// # Errors
    /// The driver's.
    pub async fn set_aside_history(&self, binding: &TableBinding, primary_key: &KeyBound, reason: &str) -> Result<()> {
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals = primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal)));
        let sql = format!(
            "INSERT INTO lockstep.dead_letters AS x (table_name, key, version, stage, reason)
             SELECT $1, {}, $2, 'backfill', $3 FROM {} AS s WHERE ({}) = ({})
             ON CONFLICT (table_name, key) DO NOTHING",
            binding.key_sql("s"),
            binding.relation.sql(),
            binding.primary_key_sql("s"),
            super::binding::list(literals),
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(Version::HISTORY.0)
            .bind(reason)
            .execute(self.pool())
            .await
            .doing("setting a row aside")?;
        Ok(())
    }

    /// Moves a pending key to the dead letters, in one statement, unless it was marked again meanwhile. Says whether it was
    /// moved: a key that an application's transaction has locked is being marked again, and is not waited for.
    ///
    /// # Errors
    /// The driver's.
    pub async fn set_aside_pending(&self, table: &str, key: &SourceKey, version: Version, reason: &str) -> Result<bool> {
        self.set_aside_text(table, &key.to_json(), version, reason).await
    }

    /// The same for a mark whose key may not read as one.
    pub(super) async fn set_aside_text(&self, table: &str, key: &str, version: Version, reason: &str) -> Result<bool> {
        let sql = format!(
            "WITH locked AS MATERIALIZED (
                 SELECT key FROM lockstep.pending WHERE table_name = $1 AND key = $2::jsonb AND version <= $3
                 FOR UPDATE SKIP LOCKED),
             gone AS (DELETE FROM lockstep.pending p USING locked l WHERE p.table_name = $1 AND p.key = l.key RETURNING 1)
             INSERT INTO lockstep.dead_letters AS x (table_name, key, version, stage, reason)
             SELECT $1, $2::jsonb, $3, 'relay', $4 FROM gone {SET_ASIDE}"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(table)
            .bind(key)
            .bind(version.0)
            .bind(reason)
            .execute(self.pool())
            .await
            .doing("setting a row aside")?;
        Ok(done.rows_affected() == 1)
    }

    /// The dead letters of a table, at most `limit`, oldest first.
    ///
    /// # Errors
    /// The driver's.
    pub async fn dead_letters(&self, table: &str, limit: i64) -> Result<Vec<DeadLetter>> {
        sqlx::query_as(
            "SELECT table_name, key::text AS key, version, stage, reason, found_at, attempts, acknowledged_at, acknowledged_by
             FROM lockstep.dead_letters WHERE table_name = $1 ORDER BY found_at, key LIMIT $2",
        )
        .bind(table)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .doing("listing dead letters")
    }

    /// How many dead letters a table has, and how many of them nobody has acknowledged.
    ///
    /// # Errors
    /// The driver's.
    pub async fn count_dead_letters(&self, table: &str) -> Result<(i64, i64)> {
        sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE acknowledged_at IS NULL) FROM lockstep.dead_letters WHERE table_name = $1",
        )
        .bind(table)
        .fetch_one(self.pool())
        .await
        .doing("counting dead letters")
    }

    /// Which of `keys` are dead letters.
    ///
    /// # Errors
    /// The driver's.
    pub async fn dead_letters_among(&self, table: &str, keys: &[SourceKey]) -> Result<Vec<SourceKey>> {
        let keys: Vec<String> = keys.iter().map(SourceKey::to_json).collect();
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT x.key::text FROM lockstep.dead_letters x
             JOIN (SELECT k::jsonb AS key FROM pg_catalog.unnest($2::text[]) AS k) AS d USING (key) WHERE x.table_name = $1",
        )
        .bind(table)
        .bind(&keys)
        .fetch_all(self.pool())
        .await
        .doing("looking keys up in the dead letters")?;
        Ok(found.iter().filter_map(|key| SourceKey::parse(key).ok()).collect())
    }

    /// Accepts that the dead letters of a table stay behind; returns how many were newly acknowledged.
    ///
    /// # Errors
    /// The driver's.
    pub async fn acknowledge_dead_letters(&self, table: &str, actor: &str) -> Result<u64> {
        let done = sqlx::query(
            "UPDATE lockstep.dead_letters SET acknowledged_at = clock_timestamp(), acknowledged_by = $2
             WHERE table_name = $1 AND acknowledged_at IS NULL",
        )
        .bind(table)
        .bind(actor)
        .execute(self.pool())
        .await
        .doing("acknowledging dead letters")?;
        Ok(done.rows_affected())
    }

    /// Marks every dead letter of a table as pending under a fresh version, so that the relay tries it again.
    ///
    /// # Errors
    /// [`Kind::Busy`](lockstep_core::Kind::Busy) when write transactions stayed open for too long.
    pub async fn retry_dead_letters(&self, table: &str) -> Result<u64> {
        // Alone, because a fresh version is ordered with no writer in flight: see `repair`.
        let mut transaction = self.begin_marking().await?;
        let done = sqlx::query(
            "INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT table_name, key, pg_catalog.nextval('lockstep.version_seq') FROM lockstep.dead_letters WHERE table_name = $1
             ON CONFLICT (table_name, key) DO UPDATE SET version = greatest(p.version, excluded.version)",
        )
        .bind(table)
        .execute(&mut *transaction)
        .await
        .doing("retrying dead letters")?;
        transaction.commit().await.doing("retrying dead letters")?;
        Ok(done.rows_affected())
    }
}
