//! The end of a migration in the source: triggers and schema `lockstep` go, and a small record stays.
//!
//! The tables stay as well, until an operator drops them, and no application reads them any more. 1. A
//! forgotten script goes on writing with SQL. 2. Nothing captures that, and nothing shows it. So where the
//! capture triggers were, a guard stays that refuses each write with a sentence. It goes with its table.

use std::time::Duration;

use lockstep_core::{Doing, Epoch, Error, Kind, Result};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::barrier::limit_lock_waits;
use super::binding::{quote_identifier, quote_literal};
use super::completions::{MEMORY, MEMORY_OF_JOURNALS};
use super::guard::{GUARD, is_guarded, is_guarded_as_moved};
use super::partitions;
use super::trigger_names::{function_name, trigger_name, truncate_trigger_name};
use super::uninstall::dependents;
use super::{Entry, EntryKind, Source, TableBinding, take_exclusive, vacuum};
use crate::sql::{self, Run as _};

/// The same of each row, for statements that name a partition.
const GUARD_OF_ROWS: &str = "zz_lockstep_moved_rows";

/// Record of a migration that ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Control table in DynamoDB, by which it is remembered.
    pub control_table: String,
    /// The epoch that begins with its completion.
    pub epoch: Epoch,
    /// Name of the operator who completes it.
    pub actor: String,
    /// Address to which the journal was exported.
    pub journal_file: String,
}

impl Source {
    /// Takes out the triggers and schema `lockstep`, and leaves the record, a copy of the journal, and the
    /// guards: all of it, or nothing. Returns what of others went with the schema, in PostgreSQL's words.
    ///
    /// # Errors
    /// [`Kind::Busy`] when a lock could not be acquired within `lock_timeout`; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it: where it is done already, nothing is done.
    #[crate::boxed]
    pub async fn archive(
        &self,
        tables: &[TableBinding],
        ending: &Ending,
        lock_timeout: Duration,
    ) -> Result<Vec<String>> {
        let doing = "taking Lockstep out of the source";
        let mut transaction = self.begin(doing).await?;
        // The tables before the barrier, as where Lockstep is uninstalled: a script that goes on writing
        // has its table, and waits in the trigger for the barrier, which would be ours while we wait for
        // the table.
        limit_lock_waits(&mut transaction, lock_timeout).await?;
        for binding in tables {
            if is_there(&mut transaction, binding).await? {
                vacuum::hold_off(&mut transaction, &binding.relation.sql()).await?;
                let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", binding.relation.sql());
                transaction.execute(AssertSqlSafe(lock)).await.doing(doing)?;
            }
        }
        take_exclusive(&mut transaction, lock_timeout).await?;
        limit_lock_waits(&mut transaction, lock_timeout).await?;
        for statement in MEMORY {
            transaction.execute(statement).await.doing(doing)?;
        }
        // Another run may have come first, and a second migration have begun since: its schema stays.
        let is_done: bool = sql::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM lockstep_archive.completed WHERE control_table = $1)",
        )
        .bind(&ending.control_table)
        .fetch_one(&mut *transaction)
        .await
        .doing(doing)?;
        if is_done {
            return Ok(Vec::new());
        }
        // An earlier version's schema may have neither identity nor contract.
        sql::query(
            "INSERT INTO lockstep_archive.completed
                 (epoch, actor, journal_file, control_table, migration_id, tables)
             SELECT $1, $2, $3, $4, pg_catalog.to_jsonb(c) ->> 'migration_id',
                 coalesce(pg_catalog.to_jsonb(c) -> 'contract', '[]') FROM lockstep.control c",
        )
        .bind(ending.epoch.0)
        .bind(&ending.actor)
        .bind(&ending.journal_file)
        .bind(&ending.control_table)
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        let mut statements = vec![
            // An earlier migration of other tables may be here as well: its journal stays, and this one's
            // follows.
            "CREATE TABLE IF NOT EXISTS lockstep_archive.journal (LIKE lockstep.journal)".to_owned(),
            MEMORY_OF_JOURNALS.to_owned(),
            "INSERT INTO lockstep_archive.journal (id, at, actor, kind, intent, step, detail, migration_id)
             SELECT j.id, j.at, j.actor, j.kind, j.intent, j.step, j.detail,
                 (SELECT pg_catalog.to_jsonb(c) ->> 'migration_id' FROM lockstep.control c)
             FROM lockstep.journal j ORDER BY j.id"
                .to_owned(),
            guard_function(),
        ];
        for binding in tables {
            // One that was dropped since the end was decided needs no guard.
            if !is_there(&mut transaction, binding).await? {
                continue;
            }
            statements.extend(of_table(binding));
            statements.extend(of_partitions(&mut transaction, binding).await?);
        }
        for statement in statements {
            transaction.execute(AssertSqlSafe(statement)).await.doing(doing)?;
        }
        // A gate has asked before the end was decided. From here on it waits for no other role.
        let others = dependents(&mut transaction).await?;
        transaction.execute("DROP SCHEMA lockstep CASCADE").await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(others)
    }

    /// Appends an entry to the journal of a migration that is complete, of this identity; returns its number.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn archive_entry(
        &self,
        (migration_id, actor): (Option<&str>, &str),
        kind: EntryKind,
        intent: Option<i64>,
        step: &str,
        detail: &Value,
    ) -> Result<i64> {
        sql::query_scalar(
            "INSERT INTO lockstep_archive.journal (id, at, actor, kind, intent, step, detail, migration_id)
             SELECT coalesce(pg_catalog.max(id), 0) + 1, pg_catalog.clock_timestamp(), $1, $2, $3, $4, $5, $6
                 FROM lockstep_archive.journal WHERE migration_id IS NOT DISTINCT FROM $6 RETURNING id",
        )
        .bind(actor)
        .bind(kind.name())
        .bind(intent)
        .bind(step)
        .bind(detail)
        .bind(migration_id)
        .fetch_one(self.pool())
        .await
        .doing("writing the journal")
    }

    /// Returns every entry of the journal of the migration that is under way, oldest first.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn whole_journal(&self) -> Result<Vec<Entry>> {
        sql::query_as("SELECT * FROM lockstep.journal ORDER BY id")
            .fetch_all(self.pool())
            .await
            .doing("reading the journal")
    }

    /// Tells whether the source table of a migration that is complete is there still. One that was made under
    /// its name since, and was moved by another migration, is not that table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_left(&self, binding: &TableBinding) -> Result<bool> {
        let mut connection = self.pool().acquire().await.doing("looking for what is left")?;
        Ok(is_there(&mut connection, binding).await?
            && (is_guarded_as_moved(&mut connection, binding).await?
                || !is_guarded(&mut connection, binding).await?))
    }

    /// Drops a source table that a migration has left behind its guard; says whether it was there.
    ///
    /// # Errors
    /// [`Kind::Refused`] for a table that has no guard: it is not one that was left, or was put there since;
    /// [`Kind::Busy`] when its lock could not be acquired; the driver's, as when something depends on it.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn drop_left(&self, binding: &TableBinding, lock_timeout: Duration) -> Result<bool> {
        let doing = format!("dropping {}", binding.relation);
        let mut transaction = self.begin(&doing).await?;
        if !is_there(&mut transaction, binding).await? {
            return Ok(false);
        }
        vacuum::hold_off(&mut transaction, &binding.relation.sql()).await?;
        limit_lock_waits(&mut transaction, lock_timeout).await?;
        if !is_guarded_as_moved(&mut transaction, binding).await? {
            let message =
                "it does not carry the guard that this migration left: it is another table, and stays";
            return Err(Error::source(Kind::Refused, doing, message));
        }
        // Without CASCADE: what depends on it is not Lockstep's, and PostgreSQL names it.
        transaction
            .execute(AssertSqlSafe(format!("DROP TABLE {}", binding.relation.sql())))
            .await
            .doing(&doing)?;
        transaction.commit().await.doing(&doing)?;
        Ok(true)
    }
}

async fn is_there(connection: &mut PgConnection, binding: &TableBinding) -> Result<bool> {
    let there = sql::query_scalar("SELECT pg_catalog.to_regclass($1) IS NOT NULL")
        .bind(binding.relation.sql())
        .fetch_one(connection);
    there.await.doing("looking for a source table")
}

fn guard_function() -> String {
    "CREATE OR REPLACE FUNCTION lockstep_archive.refuse() RETURNS trigger LANGUAGE plpgsql
     SET search_path = pg_catalog, pg_temp AS $lockstep$
     BEGIN
         RAISE EXCEPTION 'lockstep: % of %.% is refused: its migration is complete, and DynamoDB table % is the truth',
             TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
             USING HINT = 'No application reads this table any more. Write through the application, to DynamoDB.',
                   ERRCODE = 'object_not_in_prerequisite_state';
     END $lockstep$"
        .to_owned()
}

/// A guard of statements guards the name that a statement uses. So each partition gets one for `TRUNCATE`,
/// and the parent one of rows, which is cloned to those that are there and to those that come.
async fn of_partitions(connection: &mut PgConnection, binding: &TableBinding) -> Result<Vec<String>> {
    let leaves = partitions::read(connection, binding).await?;
    let argument = quote_literal(&binding.target_name);
    let truncate = quote_identifier(&truncate_trigger_name(binding));
    let mut statements = Vec::new();
    for leaf in &leaves {
        let Some(relation) = partitions::relation(connection, leaf).await? else { continue };
        statements.extend([
            format!("DROP TRIGGER IF EXISTS {truncate} ON {relation}"),
            format!("DROP TRIGGER IF EXISTS {GUARD} ON {relation}"),
            format!(
                "CREATE TRIGGER {GUARD} BEFORE TRUNCATE ON {relation}
                 FOR EACH STATEMENT EXECUTE FUNCTION lockstep_archive.refuse({argument})"
            ),
            format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {GUARD}"),
        ]);
    }
    if !leaves.is_empty() {
        let relation = binding.relation.sql();
        statements.extend([
            format!("DROP TRIGGER IF EXISTS {GUARD_OF_ROWS} ON {relation}"),
            format!(
                "CREATE TRIGGER {GUARD_OF_ROWS} BEFORE INSERT OR UPDATE OR DELETE ON {relation}
                 FOR EACH ROW EXECUTE FUNCTION lockstep_archive.refuse({argument})"
            ),
            format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {GUARD_OF_ROWS}"),
        ]);
    }
    Ok(statements)
}

fn of_table(binding: &TableBinding) -> Vec<String> {
    let relation = binding.relation.sql();
    vec![
        format!("DROP TRIGGER IF EXISTS {} ON {relation}", quote_identifier(&trigger_name(binding))),
        format!("DROP TRIGGER IF EXISTS {} ON {relation}", quote_identifier(&truncate_trigger_name(binding))),
        format!("DROP FUNCTION IF EXISTS {}()", function_name(binding)),
        format!("DROP TRIGGER IF EXISTS {GUARD} ON {relation}"),
        format!(
            "CREATE TRIGGER {GUARD} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {relation}
             FOR EACH STATEMENT EXECUTE FUNCTION lockstep_archive.refuse({})",
            quote_literal(&binding.target_name)
        ),
        format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {GUARD}"),
    ]
}
