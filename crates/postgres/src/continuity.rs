//! Memory that the source has of its own history, so that a step back is noticed.
//!
//! A source that was set back forgets what it wrote about itself. So it also has each target table
//! remember how far it was: a *mark* with a number that only grows. Each mark is made in three steps, so
//! that a crash between them is not taken for a loss: 1. The source commits that mark n may be in the
//! target from now on. 2. The target takes it. 3. The source commits that it has. Hence: a target that
//! shows a mark above what the source knows it may show says that the source was set back; a target that
//! shows a mark below what the source knows it has taken was set back itself.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_core::{Doing, EPOCH_SHIFT, Epoch, Result, Retry, Version};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::elsewhere::{Elsewhere, take_for_own, told_apart};
use super::{Contradicted, Source};
use crate::sql;

/// Expression for the server and the timeline that the source is on.
const HISTORY: &str = "(pg_catalog.pg_control_system()).system_identifier || '/'
    || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)";

/// Facts that the source states about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SourceContinuity {
    /// The server and timeline that this migration was last known to be on; `None` before the first mark, or
    /// where no server tells. With the name of its database where this is another one.
    pub known_server: Option<String>,
    /// Those that it is on now; `None` where the server does not tell.
    pub server: Option<String>,
    /// The highest version that was ever noted here.
    pub known_version: Version,
    /// The version that was handed out last.
    pub version: Version,
    /// Changes that a target refuses by what this history has not delivered, one a table.
    pub contradicted: Vec<Contradicted>,
}

/// Marks that the source knows of in one target table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, sqlx_macros::FromRow)]
pub struct KnownMarks {
    /// The newest mark that may be there.
    pub marking: i64,
    /// The newest mark that is there.
    pub marked: i64,
}

/// A mark that is about to be made.
#[derive(Clone, Debug)]
pub struct NewMark {
    /// Number of the mark.
    pub number: i64,
    /// The version that the source had handed out last.
    pub version: Version,
    /// The server and timeline, where it tells.
    pub server: Option<String>,
}

/// Server and version that are known, the version and the server as they are, whether any change
/// contradicts them, and the databases of then and now.
type HistoryRow = (Option<String>, i64, i64, Option<String>, bool, Option<String>, String);

impl Source {
    /// Returns which history of which server this is: its system identifier and its timeline. A source that
    /// was restored to a moment, or failed over to a replica that lagged, is on another one. `None` where the
    /// server does not say.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn history(&self) -> Result<Option<String>> {
        let asked =
            sql::query_scalar(AssertSqlSafe(format!("SELECT {HISTORY}"))).fetch_one(self.pool()).await;
        match asked.doing("asking for the source's timeline") {
            Ok(history) => Ok(Some(history)),
            // Some services let no role ask.
            Err(error) if error.kind.retry() == Retry::Never => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns what the source states about itself; `None` where schema `lockstep` is not there, or is older
    /// than this.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn source_continuity(&self) -> Result<Option<SourceContinuity>> {
        // By one statement where that works: whatever runs long asks this again and again.
        let sql = format!(
            "SELECT h.server, h.version, s.last_value, {HISTORY}, EXISTS (SELECT
                 FROM lockstep.contradicted c JOIN lockstep.control k ON k.epoch = c.epoch),
                 (SELECT pg_catalog.to_jsonb(k) OPERATOR(pg_catalog.->>) 'database' FROM lockstep.control k),
                 pg_catalog.current_database()::text
             FROM lockstep.history h, lockstep.version_seq s"
        );
        let at_once: sqlx::Result<Option<HistoryRow>> =
            sql::query_as(AssertSqlSafe(sql)).fetch_optional(self.pool()).await;
        match at_once.doing("reading the history of the source") {
            Ok(None) => Ok(None),
            Ok(Some((known_server, known_version, version, server, contradicts, was, is))) => {
                let contradicted = if contradicts { self.contradicted().await? } else { Vec::new() };
                let (known_server, server) = told_apart(known_server, server, Elsewhere::of(was, is));
                let (known_version, version) = (Version(known_version), Version(version));
                Ok(Some(SourceContinuity { known_server, server, known_version, version, contradicted }))
            }
            // Some part of it is not there, or may not be asked.
            Err(error) if error.is_missing_table() || error.kind.retry() == Retry::Never => {
                self.continuity_by_parts().await
            }
            Err(error) => Err(error),
        }
    }

    /// Tells whether the source keeps its history: schema `lockstep` is there, and not older than this.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn keeps_history(&self) -> Result<bool> {
        sql::query_scalar("SELECT pg_catalog.to_regclass('lockstep.history') IS NOT NULL")
            .fetch_one(self.pool())
            .await
            .doing("looking for the history of the source")
    }

    async fn continuity_by_parts(&self) -> Result<Option<SourceContinuity>> {
        let found: Option<(Option<String>, i64, i64)> = none_where_missing(
            sql::query_as(
                "SELECT h.server, h.version, s.last_value FROM lockstep.history h, lockstep.version_seq s",
            )
            .fetch_optional(self.pool())
            .await
            .doing("reading the history of the source"),
        )?;
        let Some((known_server, known_version, version)) = found else { return Ok(None) };
        let (known_server, server) = told_apart(known_server, self.history().await?, self.elsewhere().await?);
        Ok(Some(SourceContinuity {
            known_server,
            server,
            known_version: Version(known_version),
            version: Version(version),
            contradicted: self.contradicted().await?,
        }))
    }

    /// Returns those that were noted in this epoch; none where schema `lockstep` is older than such notes.
    async fn contradicted(&self) -> Result<Vec<Contradicted>> {
        let found = sql::query_as(
            "SELECT c.table_name, c.key::text AS key, c.version, c.seen
             FROM lockstep.contradicted c JOIN lockstep.control k ON k.epoch = c.epoch ORDER BY c.table_name",
        )
        .fetch_all(self.pool())
        .await
        .doing("reading which changes are refused");
        match found {
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            found => found,
        }
    }

    /// Returns the marks in target tables that the source knows, by the names of the tables: one statement,
    /// however many there are.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn marks_known(&self) -> Result<BTreeMap<String, KnownMarks>> {
        let found = sql::query_as("SELECT table_name, marking, marked FROM lockstep.history_marks")
            .fetch_all(self.pool())
            .await
            .doing("reading the marks of the tables");
        let rows: Vec<(String, i64, i64)> = match found {
            Err(error) if error.is_missing_table() => Vec::new(),
            found => found?,
        };
        Ok(rows.into_iter().map(|(table, marking, marked)| (table, KnownMarks { marking, marked })).collect())
    }

    /// Begins a mark in each of these tables, given with the name of its target table; from here on it may be
    /// there. None in one that was not adopted as that of its table, and none where the newest mark is
    /// younger than `changed_every`, or says the same version and is younger than `every`: one statement,
    /// however many tables there are. One whose time lies ahead is not young: 1. The clock is ahead by an
    /// hour when a mark is made, and is right again. 2. For an hour none is made, and a restore to any moment
    /// of that hour goes unnoticed.
    ///
    /// This database is taken for the one that marks are for (`brought.sql`), as its history was found kept:
    /// it may have been moved by a dump, on a service that does not tell its servers apart.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn begin_marks(
        &self,
        tables: &[(&str, &str)],
        changed_every: Duration,
        every: Duration,
    ) -> Result<BTreeMap<String, NewMark>> {
        let server = self.history().await?;
        let (names, targets): (Vec<&str>, Vec<&str>) = tables.iter().copied().unzip();
        let begun = sql::query_as(
            // A sequence cannot be joined to what is updated. In the order of the names, as `end_marks` takes
            // the rows: two that take them in different orders wait for each other.
            "WITH now AS MATERIALIZED (SELECT last_value FROM lockstep.version_seq),
                  self AS (
                 UPDATE lockstep.history h SET server = coalesce(h.server, $4),
                     version = greatest(h.version, (SELECT last_value FROM now)),
                     installed_as = 'lockstep.control'::regclass::oid
                 RETURNING (SELECT last_value FROM now) AS last_value)
             INSERT INTO lockstep.history_marks AS m (table_name, marking, version, marked_at)
             SELECT asked.name, 1, self.last_value, pg_catalog.clock_timestamp()
             FROM self, ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($5::text[]))
                 AS asked (name, target_name)
                 JOIN lockstep.tables t ON t.name = asked.name AND t.target_name = asked.target_name
             ORDER BY asked.name
             ON CONFLICT (table_name) DO UPDATE SET marking = m.marking + 1, version = excluded.version, marked_at = excluded.marked_at
             WHERE m.marked < m.marking OR m.marked_at > excluded.marked_at + interval '1 second'
                OR m.marked_at < excluded.marked_at - pg_catalog.make_interval(secs => $3)
                OR (m.version <> excluded.version AND m.marked_at < excluded.marked_at - pg_catalog.make_interval(secs => $2))
             RETURNING table_name, marking, version",
        )
        .bind(names)
        .bind(changed_every.as_secs_f64())
        .bind(every.as_secs_f64())
        .bind(&server)
        .bind(targets)
        .fetch_all(self.pool())
        .await
        .doing("beginning marks");
        let begun: Vec<(String, i64, i64)> = match begun {
            // A schema of before this keeps none.
            Err(error) if error.is_missing_table() => Vec::new(),
            begun => begun?,
        };
        let mark = |number, version| NewMark { number, version: Version(version), server: server.clone() };
        Ok(begun.into_iter().map(|(table, number, version)| (table, mark(number, version))).collect())
    }

    /// Notes which marks are in the target, by the names of their tables.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn end_marks(&self, made: &[(&str, i64)]) -> Result<()> {
        let (tables, numbers): (Vec<&str>, Vec<i64>) = made.iter().copied().unzip();
        sql::query(
            "UPDATE lockstep.history_marks m SET marked = greatest(m.marked, made.number)
             FROM (SELECT h.table_name, asked.number
                 FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]))
                     AS asked (name, number)
                 JOIN lockstep.history_marks h ON h.table_name = asked.name
                 ORDER BY h.table_name FOR UPDATE OF h) AS made
             WHERE m.table_name = made.table_name",
        )
        .bind(tables)
        .bind(numbers)
        .execute(self.pool())
        .await
        .doing("noting marks")
        .map(drop)
    }

    /// Takes the present history, on `server`, for the right one, inside `transaction`, and lets the next
    /// epoch be no lower than `least`: every version from then on outranks the lost ones. Where the source is
    /// the one that `lost` history, what the target holds of before is in doubt from then on. The source
    /// forgets all that was concluded from the lost history: passes of the validator, and that the cold load
    /// path is open.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn accept_continuity(
        transaction: &mut PgConnection,
        server: Option<&str>,
        least: Epoch,
        lost: bool,
    ) -> Result<()> {
        let doing = "accepting the history of the source";
        sql::query(
            "SELECT pg_catalog.setval('lockstep.version_seq', $1) FROM lockstep.version_seq
             WHERE last_value < $1",
        )
        .bind((least.0 - 1) << EPOCH_SHIFT)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        // The version that was noted as the highest may be one that the sequence was set back from; the mark
        // of the new epoch is above it.
        sql::query(
            "UPDATE lockstep.history SET server = $1, version = 0,
                 lost_before = CASE WHEN $2 THEN greatest(lost_before, $3) ELSE lost_before END",
        )
        .bind(server)
        .bind(lost)
        .bind(least.0)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        take_for_own(transaction).await?;
        sql::query("DELETE FROM lockstep.contradicted").execute(&mut *transaction).await.doing(doing)?;
        sql::query("DELETE FROM lockstep.verified").execute(&mut *transaction).await.doing(doing)?;
        sql::query(
            "UPDATE lockstep.tables SET relay_enabled_at = coalesce(relay_enabled_at,
            pg_catalog.clock_timestamp()) WHERE NOT importing",
        )
        .execute(transaction)
        .await
        .doing(doing)?;
        Ok(())
    }

    /// Takes everything that was written since `from` for news from the target, inside `transaction`, which
    /// makes the source follow a target that is the truth: what the source still meant to deliver is long
    /// overtaken.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn follow_target(transaction: &mut PgConnection, from: Epoch, to: Epoch) -> Result<()> {
        let doing = "following the target";
        sql::query(
            "INSERT INTO lockstep.target_epochs SELECT pg_catalog.generate_series($1::bigint, $2)
                ON CONFLICT DO NOTHING",
        )
        .bind(from.0)
        .bind(to.0)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        for sql in [
            "DELETE FROM lockstep.pending",
            "DELETE FROM lockstep.intents",
            // The way back stays closed until the whole target was read.
            "UPDATE lockstep.reverse_tables SET lost_at = pg_catalog.clock_timestamp(),
                lost_why = 'PostgreSQL was set back', stopped_at = NULL, stopped_why = NULL",
            // Of another server: what is counted here has not come so far, and all of it would count as
            // changed a moment ago.
            "UPDATE lockstep.reverse_places SET touched = pg_catalog.pg_current_xact_id()
                WHERE touched > pg_catalog.pg_current_xact_id()",
        ] {
            sql::query(sql).execute(&mut *transaction).await.doing(doing)?;
        }
        Ok(())
    }

    /// Sets what the source knows of the marks in a target table, inside `transaction`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn accept_marks(transaction: &mut PgConnection, table: &str, marks: KnownMarks) -> Result<()> {
        sql::query(
            "INSERT INTO lockstep.history_marks AS m (table_name, marking, marked) VALUES ($1, $2, $3)
             ON CONFLICT (table_name) DO UPDATE SET marking = excluded.marking, marked = excluded.marked, marked_at = '-infinity'",
        )
        .bind(table)
        .bind(marks.marking)
        .bind(marks.marked)
        .execute(transaction)
        .await
        .doing("accepting the marks of a table")
        .map(drop)
    }

    /// Gives every pending key, and every key of an open intent, a fresh version, inside `transaction`, which
    /// is behind the closed barrier: so no writer is in flight that could have taken a lower one.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn mark_pending_again(transaction: &mut PgConnection) -> Result<()> {
        let doing = "marking pending keys again";
        for sql in [
            "UPDATE lockstep.pending SET version = pg_catalog.nextval('lockstep.version_seq')",
            "UPDATE lockstep.intents SET repair_version = pg_catalog.nextval('lockstep.version_seq')",
        ] {
            sql::query(sql).execute(&mut *transaction).await.doing(doing)?;
        }
        Ok(())
    }
}

/// A schema of before this has nothing to say.
fn none_where_missing<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(error) if error.is_missing_table() => Ok(None),
        found => found,
    }
}
