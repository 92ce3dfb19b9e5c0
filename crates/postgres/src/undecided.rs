//! Rows that are left to a person after the source lost history: which store is right is decided row by row.
//!
//! Marks and intents come back with a source that is restored. 1. A key waits for delivery, or a strict write
//! is under way, at the moment that the source is restored to. 2. In the time that is lost it was delivered,
//! and the row changed or deleted once more. 3. Delivered again under a fresh version, the state of before
//! would be put over the only copy of what came after. So where the target holds a newer state than such a
//! mark it is taken out, and the comparison that follows lists the key. A mark that was made since is an
//! application's own: it was written on what is there now, and is delivered.

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Epoch, Error, Kind, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::Source;
use super::binding::digest_sql;
use crate::sql;

/// A mark that may have come back with a source that was restored.
#[derive(Clone, Debug)]
pub struct WaitingMark {
    /// The table.
    pub table: String,
    /// The key.
    pub key: SourceKey,
    /// Version of the state.
    pub version: Version,
}

const READING: &str = "reading what waited when history was lost";

impl Source {
    /// Returns the later of `known`, a moment of the time that is lost, and the start of this server: what
    /// was marked up to then may be of before the source was restored.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn restored_after(&self, known: Option<DateTime<Utc>>) -> Result<DateTime<Utc>> {
        sql::query_scalar("SELECT greatest($1, pg_catalog.pg_postmaster_start_time())")
            .bind(known)
            .fetch_one(self.pool())
            .await
            .doing(READING)
    }

    /// Marks that were made up to `until`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn marks_until(&self, until: DateTime<Utc>) -> Result<Vec<WaitingMark>> {
        let found: Vec<(String, String, i64)> = sql::query_as(
            "SELECT table_name, key::text, version FROM lockstep.pending WHERE marked_at <= $1
             ORDER BY table_name, version",
        )
        .bind(until)
        .fetch_all(self.pool())
        .await
        .doing(READING)?;
        let mark = |(table, key, version): (String, String, i64)| {
            let key = SourceKey::parse(&key)
                .map_err(|error| Error::source(Kind::Invalid, READING, error.to_string()))?;
            Ok(WaitingMark { table, key, version: Version(version) })
        };
        found.into_iter().map(mark).collect()
    }

    /// Takes these marks out, inside `transaction`, where they stand as they were read, and with them the
    /// intents of strict writes that were made up to `until` and are over. The caller compares both stores.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn leave_undecided(
        transaction: &mut PgConnection,
        marks: &[WaitingMark],
        until: DateTime<Utc>,
    ) -> Result<()> {
        let doing = "leaving what waited to be decided";
        let tables: Vec<&str> = marks.iter().map(|mark| mark.table.as_str()).collect();
        let keys: Vec<String> = marks.iter().map(|mark| mark.key.to_json()).collect();
        let versions: Vec<i64> = marks.iter().map(|mark| mark.version.0).collect();
        let sql = format!(
            "DELETE FROM lockstep.pending p
             USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                 pg_catalog.unnest($3::bigint[])) AS d (t, k, v)
             WHERE p.table_name = d.t AND {} = {} AND p.version = d.v",
            digest_sql("p.key"),
            digest_sql("d.k::jsonb"),
        );
        sql::query(AssertSqlSafe(sql))
            .bind(&tables)
            .bind(&keys)
            .bind(&versions)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        // A transaction that was under way at that moment is rolled back, and in the time that is lost it
        // may have committed.
        sql::query(
            "DELETE FROM lockstep.intents i WHERE i.made_at <= $1
                 AND CASE WHEN i.xid < pg_catalog.pg_current_xact_id()
                     THEN pg_catalog.pg_xact_status(i.xid) IS DISTINCT FROM 'in progress' ELSE true END",
        )
        .bind(until)
        .execute(transaction)
        .await
        .doing(doing)
        .map(drop)
    }

    /// Notes, inside `transaction`, that what the target has more since before `epoch` is to be decided
    /// about: until a comparison of everything agrees, it is overwritten by nothing that is not asked to. For
    /// a source that is the truth again, or is believed again: the target may have what it refused, or what
    /// was written there by an instance that took the target for the truth.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn leave_what_differs(transaction: &mut PgConnection, epoch: Epoch) -> Result<()> {
        sql::query("UPDATE lockstep.history SET lost_before = greatest(lost_before, $1)")
            .bind(epoch.0)
            .execute(transaction)
            .await
            .doing("leaving what differs to be decided")
            .map(drop)
    }

    /// Tells whether the source lost history, and no comparison of everything has agreed since: what the
    /// target has more, or has otherwise, may be the only copy of what the source forgot.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_loss_undecided(&self) -> Result<bool> {
        let found = sql::query_scalar("SELECT lost_before > 0 FROM lockstep.history")
            .fetch_optional(self.pool())
            .await
            .doing("asking whether lost history was decided about");
        match found {
            // A schema of before such notes.
            Err(error) if matches!(error.sqlstate().as_deref(), Some("42P01" | "42703")) => Ok(false),
            found => Ok(found?.unwrap_or(false)),
        }
    }

    /// Notes that both stores agreed in `epoch`, whole: nothing of a loss of before is left to be decided.
    ///
    /// # Errors
    /// The driver's.
    pub(super) async fn note_decided(&self, epoch: Epoch) -> Result<()> {
        sql::query("UPDATE lockstep.history SET lost_before = 0 WHERE lost_before > 0 AND lost_before <= $1")
            .bind(epoch.0)
            .execute(self.pool())
            .await
            .doing("noting that lost history was decided about")
            .map(drop)
    }
}
