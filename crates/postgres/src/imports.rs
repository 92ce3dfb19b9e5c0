//! Imports from S3: what has been written as parts, and how far DynamoDB's job is, so that a run that was
//! killed goes on (R54, I9).

use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Kind, Result};
use serde::Serialize;
use serde_json::Value;

use super::clock::{is_ahead, worker_is_live};
use super::range_plan::hold_plan;
use super::{HeldRange, KeyBound, RangeProgress, Source};
use crate::sql;

/// Destination of the parts of a table that an import loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportDestination {
    /// Folder on this machine that parts are written to.
    pub folder: String,
    /// Bucket that DynamoDB reads.
    pub bucket: String,
    /// Prefix in the bucket under which the parts are.
    pub prefix: String,
    /// Bytes of a part before it is compressed, about.
    pub part_bytes: i64,
    /// Whether who writes a part puts it into the bucket, and there is no folder.
    pub direct: bool,
}

/// An import of one table.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct ImportRow {
    /// `writing`, `importing`, `filling` or `done`.
    pub state: String,
    /// See [`ImportDestination`].
    pub folder: String,
    /// See [`ImportDestination`].
    pub bucket: String,
    /// See [`ImportDestination`].
    pub prefix: String,
    /// See [`ImportDestination`].
    pub part_bytes: i64,
    /// See [`ImportDestination`].
    pub direct: bool,
    /// Token by which DynamoDB knows a call that is repeated.
    pub client_token: Option<String>,
    /// DynamoDB's name of the job, once it answered.
    pub arn: Option<String>,
    /// Time at which it was begun, by the source's clock: one that was begun again is another.
    pub begun_at: DateTime<Utc>,
}

/// A part that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx_macros::FromRow)]
pub struct PartRow {
    /// Name of its file.
    pub name: String,
    /// Items in it.
    pub items: i64,
    /// Bytes of its file.
    pub bytes: i64,
    /// Mark of its content in S3, where it was put there by who wrote it.
    pub e_tag: Option<String>,
}

impl Source {
    /// Returns the import of a table; `None` where the initial load went in by writes, or where schema
    /// `lockstep` is of a version that knew none.
    ///
    /// # Errors
    /// The driver's.
    pub async fn import(&self, table: &str) -> Result<Option<ImportRow>> {
        let found = sql::query_as(
            "SELECT state, folder, bucket, prefix, part_bytes, client_token, arn, begun_at,
                 -- A schema of before has no such column.
                 coalesce((pg_catalog.to_jsonb(i) ->> 'direct')::boolean, false) AS direct
             FROM lockstep.imports i WHERE table_name = $1",
        )
        .bind(table)
        .fetch_optional(self.pool())
        .await
        .doing("reading how far an import is");
        match found {
            Err(error) if error.is_missing_table() => Ok(None),
            found => found,
        }
    }

    /// Begins an import of a table that has no target yet, and closes the table for changes until its target
    /// is there. An earlier plan is forgotten.
    ///
    /// # Errors
    /// The driver's. `false`: the table has a target, and nothing was changed.
    pub async fn begin_import(&self, table: &str, destination: &ImportDestination) -> Result<bool> {
        let doing = "beginning an import";
        let mut transaction = self.begin(doing).await?;
        let closed = sql::query(
            "UPDATE lockstep.tables SET importing = true, relay_enabled_at = NULL, planned_at = NULL,
                 window_start = NULL, window_end = NULL
             WHERE name = $1 AND target_name IS NULL",
        );
        let closed = closed.bind(table).execute(&mut *transaction).await.doing(doing)?;
        if closed.rows_affected() == 0 {
            transaction.rollback().await.doing(doing)?;
            return Ok(false);
        }
        for sql in [
            "DELETE FROM lockstep.ranges WHERE table_name = $1",
            "DELETE FROM lockstep.import_parts WHERE table_name = $1",
            "DELETE FROM lockstep.imports WHERE table_name = $1",
        ] {
            sql::query(sql).bind(table).execute(&mut *transaction).await.doing(doing)?;
        }
        sql::query(
            "INSERT INTO lockstep.imports (table_name, state, folder, bucket, prefix, part_bytes, direct)
             VALUES ($1, 'writing', $2, $3, $4, $5, $6)",
        )
        .bind(table)
        .bind(&destination.folder)
        .bind(&destination.bucket)
        .bind(&destination.prefix)
        .bind(destination.part_bytes)
        .bind(destination.direct)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(true)
    }

    /// Forgets an import that DynamoDB was not asked for, and what was written for it: the initial load is
    /// then read again from the beginning, for another load path.
    ///
    /// # Errors
    /// The driver's.
    pub async fn abandon_import(&self, table: &str) -> Result<()> {
        let doing = "forgetting an import";
        let mut transaction = self.begin(doing).await?;
        hold_plan(&mut transaction, table, doing).await?;
        for sql in [
            "DELETE FROM lockstep.ranges WHERE table_name = $1",
            "DELETE FROM lockstep.import_parts WHERE table_name = $1",
            "DELETE FROM lockstep.imports WHERE table_name = $1",
            "UPDATE lockstep.tables SET importing = false, planned_at = NULL, window_start = NULL,
                 window_end = NULL WHERE name = $1",
        ] {
            sql::query(sql).bind(table).execute(&mut *transaction).await.doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Moves the watermark of a range that is held behind a part whose file is whole, and notes the part.
    /// `false` where the lease is over, or this import is not the one that parts are written for: nothing was
    /// saved, and the file is no part.
    ///
    /// 1. A process that writes parts sleeps. 2. Another one ends the import, or gives it up, and the
    /// ranges are gone through again by writes. 3. The first wakes, registers, and takes such a range: its
    /// rows would be in a file that no job reads.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// It happened or it did not; where it did not, its rows are read again into a part of another name.
    pub async fn acknowledge_part(
        &self,
        held: &HeldRange,
        watermark: &KeyBound,
        add: RangeProgress,
        (import, part): (&ImportRow, &PartRow),
    ) -> Result<bool> {
        let sql = format!(
            "WITH moved AS (
                 UPDATE lockstep.ranges SET watermark = $3, rows_read = rows_read + $4,
                     rows_written = rows_written + $5, rows_present = rows_present + $6,
                     dead_letters = dead_letters + $7, bytes_read = bytes_read + $8
                 WHERE table_name = $1 AND number = $2 AND token = $9 AND worker = $10 AND NOT done
                     AND EXISTS (
                     SELECT 1 FROM lockstep.workers w
                     WHERE w.id = $10 AND {live})
                     AND EXISTS (
                     SELECT 1 FROM lockstep.imports i
                     WHERE i.table_name = $1 AND i.begun_at = $14 AND i.state = 'writing' FOR SHARE)
                 RETURNING table_name)
             INSERT INTO lockstep.import_parts (table_name, name, items, bytes, e_tag)
             SELECT table_name, $11, $12, $13, $15 FROM moved",
            live = worker_is_live("w"),
        );
        let noted = sql::query(sqlx::AssertSqlSafe(sql))
            .bind(&held.table_name)
            .bind(held.range.number)
            .bind(watermark)
            .bind(add.rows_read)
            .bind(add.rows_written)
            .bind(add.rows_present)
            .bind(add.dead_letters)
            .bind(add.bytes_read)
            .bind(held.token)
            .bind(held.worker)
            .bind(&part.name)
            .bind(part.items)
            .bind(part.bytes)
            .bind(import.begun_at)
            .bind(&part.e_tag)
            .execute(self.pool())
            .await
            .doing("acknowledging a part of an import")?;
        Ok(noted.rows_affected() == 1)
    }

    /// Returns the parts of a table, by name.
    ///
    /// # Errors
    /// The driver's.
    pub async fn import_parts(&self, table: &str) -> Result<Vec<PartRow>> {
        sql::query_as(
            "SELECT name, items, bytes, e_tag FROM lockstep.import_parts WHERE table_name = $1 ORDER BY name",
        )
        .bind(table)
        .fetch_all(self.pool())
        .await
        .doing("reading the parts of an import")
    }

    /// Notes under which token DynamoDB is about to be asked, and once it answered the name of the job; both
    /// `None` once it is known that the job has ended and left no table.
    ///
    /// Only where the token is still the one of `import`. 1. A run copies parts, and is stopped; its lock is
    /// over. 2. Another one copies them, notes a token of its own, and asks. 3. The first wakes: its token
    /// would take the place of the one by which the job is found, and a refusal of its call would take out
    /// that job's.
    ///
    /// # Errors
    /// The driver's; [`Kind::Fenced`] where another run has begun it again, has asked under another token, or
    /// brought it to its end.
    pub async fn note_import(
        &self,
        table: &str,
        import: &ImportRow,
        token: Option<&str>,
        arn: Option<&str>,
    ) -> Result<()> {
        let noted = sql::query(
            "UPDATE lockstep.imports SET client_token = $2, arn = $3,
                 state = CASE WHEN $2::text IS NULL THEN 'writing' ELSE 'importing' END,
                 asked_at = CASE WHEN $2 = client_token THEN asked_at ELSE pg_catalog.clock_timestamp() END
             WHERE table_name = $1 AND state IN ('writing', 'importing') AND begun_at = $4
                 AND client_token IS NOT DISTINCT FROM $5",
        )
        .bind(table)
        .bind(token)
        .bind(arn)
        .bind(import.begun_at)
        .bind(&import.client_token)
        .execute(self.pool())
        .await
        .doing("noting how far an import is")?;
        require_one(noted.rows_affected())
    }

    /// Takes on the table that an import made, and opens it for changes. Where the job left something out
    /// (`whole` is false), every range is gone through once more.
    ///
    /// # Errors
    /// As [`Source::note_import`].
    ///
    /// # Cancel safety
    /// One transaction; repeat it.
    pub async fn take_on_import(
        &self,
        table: &str,
        import: &ImportRow,
        target: (&str, Option<&str>),
        whole: bool,
        outcome: &Value,
    ) -> Result<()> {
        let doing = "taking on the table that an import made";
        let mut transaction = self.begin(doing).await?;
        sql::query(
            "UPDATE lockstep.tables SET target_name = $2, target_id = $3, importing = false WHERE name = $1",
        )
        .bind(table)
        .bind(target.0)
        .bind(target.1)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        let taken = sql::query(
            "UPDATE lockstep.imports SET outcome = $3, state = CASE WHEN $2 THEN 'done' ELSE 'filling' END
             WHERE table_name = $1 AND state IN ('writing', 'importing') AND begun_at = $4
                 AND client_token IS NOT DISTINCT FROM $5",
        );
        let taken = taken.bind(table).bind(whole).bind(outcome).bind(import.begun_at);
        let taken = taken.bind(&import.client_token);
        // Dropped, the transaction takes back what it changed before.
        require_one(taken.execute(&mut *transaction).await.doing(doing)?.rows_affected())?;
        if !whole {
            sql::query(
                "UPDATE lockstep.ranges SET watermark = NULL, done = false, worker = NULL, rows_read = 0,
                     rows_written = 0, rows_present = 0, dead_letters = 0, bytes_read = 0
                 WHERE table_name = $1",
            )
            .bind(table)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Tells whether a call for a job may still arrive: its token was noted within `lifetime`, by the
    /// source's clock.
    ///
    /// # Errors
    /// The driver's.
    pub async fn import_asked_within(&self, table: &str, lifetime: Duration) -> Result<bool> {
        // When a token was noted whose time lies ahead is not known, so that it is waited for from now on.
        let begin_again = format!(
            "UPDATE lockstep.imports SET asked_at = pg_catalog.clock_timestamp()
             WHERE table_name = $1 AND {}",
            is_ahead("asked_at")
        );
        sql::query(sqlx::AssertSqlSafe(begin_again))
            .bind(table)
            .execute(self.pool())
            .await
            .doing("asking since when an import may be under way")?;
        let asked = sql::query_scalar(
            "SELECT asked_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)
             FROM lockstep.imports WHERE table_name = $1 AND client_token IS NOT NULL",
        );
        let asked = asked.bind(table).bind(lifetime.as_secs_f64()).fetch_optional(self.pool()).await;
        Ok(asked.doing("asking since when an import may be under way")?.unwrap_or(false))
    }

    /// Notes that what an import left out has gone in.
    ///
    /// # Errors
    /// The driver's.
    pub async fn end_filling(&self, table: &str) -> Result<()> {
        sql::query("UPDATE lockstep.imports SET state = 'done' WHERE table_name = $1 AND state = 'filling'")
            .bind(table)
            .execute(self.pool())
            .await
            .doing("ending an import")?;
        Ok(())
    }
}

fn require_one(rows: u64) -> Result<()> {
    if rows == 1 {
        return Ok(());
    }
    let message = "another run has begun this import again, asked for its job, or brought it to its end; \
        run the same command again";
    Err(Error::source(Kind::Fenced, "going on with an import", message))
}
