//! Place in which [`Completed`] is kept: schema `lockstep_archive`, which outlives schema `lockstep`.

use lockstep_core::Advice::ControlTable;
use lockstep_core::{Doing, Epoch, Error, Kind, Result};
use sqlx::types::Json;

use super::remembered::{Completed, CompletedTable, READING, Whose, read_whose};
use super::{Contract, Source, TableBinding};
use crate::sql::{self, Run as _};

/// Statements that make the memory, and bring one of an earlier version, which was of one migration, up to
/// date.
pub(crate) const MEMORY: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS lockstep_archive",
    "CREATE TABLE IF NOT EXISTS lockstep_archive.completed (
         completed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
         epoch bigint NOT NULL, actor text NOT NULL, journal_file text NOT NULL)",
    "ALTER TABLE lockstep_archive.completed DROP COLUMN IF EXISTS singleton,
         ADD COLUMN IF NOT EXISTS control_table text, ADD COLUMN IF NOT EXISTS migration_id text,
         ADD COLUMN IF NOT EXISTS tables jsonb NOT NULL DEFAULT '[]'",
    "CREATE UNIQUE INDEX IF NOT EXISTS completed_of_control_table
         ON lockstep_archive.completed (control_table)",
];

/// Statement that does the same for the journals, which are kept in one table.
pub(crate) const MEMORY_OF_JOURNALS: &str =
    "ALTER TABLE lockstep_archive.journal ADD COLUMN IF NOT EXISTS migration_id text";

impl Source {
    /// Tells whose schema `lockstep` is. One of an earlier version does not say what was complete before it:
    /// then the memory is asked, which only the operator's role can.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn whose(&self) -> Result<Whose> {
        let mut connection = self.pool().acquire().await.doing(READING)?;
        let mut whose = read_whose(&mut connection).await?;
        drop(connection);
        if whose.completed.is_empty() {
            whose.completed = match self.completions().await {
                Err(error) if error.kind == Kind::Denied => Vec::new(),
                found => found?,
            };
        }
        Ok(whose)
    }

    /// Returns every migration that is complete in this database, oldest first.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn completions(&self) -> Result<Vec<Completed>> {
        let there: bool =
            sql::query_scalar("SELECT pg_catalog.to_regclass('lockstep_archive.completed') IS NOT NULL")
                .fetch_one(self.pool())
                .await
                .doing(READING)?;
        if !there {
            return Ok(Vec::new());
        }
        // An earlier version's has fewer columns.
        let found: Vec<Json<Completed>> = sql::query_scalar(
            "SELECT pg_catalog.to_jsonb(c) FROM lockstep_archive.completed c ORDER BY c.completed_at",
        )
        .fetch_all(self.pool())
        .await
        .doing(READING)?;
        Ok(found.into_iter().map(|Json(completed)| completed).collect())
    }

    /// Returns what is remembered of the migration of control table `control_table`, whose record says that
    /// it is complete since `completed_in`; `None` where nothing is. What an earlier version left has no
    /// name, and is known by that epoch.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn completion_of(
        &self,
        control_table: &str,
        completed_in: Option<Epoch>,
    ) -> Result<Option<Completed>> {
        let completed = self.completions().await?;
        let known = Whose { id: None, completed };
        let unnamed = || completed_in.and_then(|epoch| known.unnamed(epoch, None));
        Ok(known.named(control_table).or_else(unnamed).cloned())
    }

    /// Gives the completion without a name, of epoch `epoch`, its name, identity and tables. Where none is,
    /// nothing is changed.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it: all of it is done, or nothing.
    #[crate::boxed]
    pub async fn name_completion(
        &self,
        epoch: Epoch,
        (control_table, migration_id): (&str, Option<&str>),
        tables: &[TableBinding],
    ) -> Result<()> {
        let doing = "giving a completion its name";
        let named = tables.iter().map(|binding| CompletedTable {
            name: binding.name().to_owned(),
            relation: binding.relation.to_string(),
            target_name: Some(binding.target_name.clone()),
        });
        let named: Vec<CompletedTable> = named.collect();
        let mut transaction = self.begin(doing).await?;
        for statement in MEMORY.into_iter().chain([MEMORY_OF_JOURNALS]) {
            transaction.execute(statement).await.doing(doing)?;
        }
        sql::query(
            "UPDATE lockstep_archive.completed SET control_table = $2, migration_id = $3, tables = $4
             WHERE control_table IS NULL AND epoch = $1",
        )
        .bind(epoch.0)
        .bind(control_table)
        .bind(migration_id)
        .bind(Json(named))
        .execute(&mut *transaction)
        .await
        .doing(doing)?;
        sql::query("UPDATE lockstep_archive.journal SET migration_id = $1 WHERE migration_id IS NULL")
            .bind(migration_id)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        let tells: bool = sql::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute
                 WHERE attrelid = pg_catalog.to_regclass('lockstep.control')::oid AND attname = 'completed'
                     AND NOT attisdropped)",
        )
        .fetch_one(&mut *transaction)
        .await
        .doing(doing)?;
        if tells {
            // A second migration has begun: its schema tells the applications of the first.
            let sql = "UPDATE lockstep.control SET completed = (
                SELECT pg_catalog.jsonb_agg(
                    pg_catalog.to_jsonb(c) - 'actor' - 'journal_file' ORDER BY c.completed_at)
                FROM lockstep_archive.completed c)";
            transaction.execute(sql).await.doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }

    /// Makes sure that `tables` are of the migration of control table `control_table`, as far as this
    /// database knows. Where a completed one is configured, schema `lockstep` is taken for gone.
    ///
    /// 1. The first migration is complete, the second in DualWrite. 2. An application of the second names the
    /// first one's control table, which says that DynamoDB is the truth. 3. It writes to DynamoDB alone.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`], which names table and control table; the driver's.
    #[crate::boxed]
    pub async fn require_one_migration(&self, control_table: &str, tables: &[TableBinding]) -> Result<()> {
        let mut connection = self.pool().acquire().await.doing(READING)?;
        let whose = read_whose(&mut connection).await?;
        if whose.completed.is_empty() {
            return Ok(());
        }
        let contract = Contract::read(&mut connection).await?;
        let mine = whose.named(control_table);
        for name in tables.iter().map(TableBinding::name) {
            let message = match mine {
                Some(done) if contract.of(name).is_some() || !(done.tables.is_empty() || done.has(name)) => {
                    format!(
                        "control table {control_table} is that of a migration that is complete since {}, and \
                         {name} is no table of it: set {ControlTable} to that of its migration",
                        done.completed_at.format("%Y-%m-%d %H:%M:%S UTC")
                    )
                }
                None => match whose.completed.iter().find(|done| done.has(name)) {
                    Some(done) if contract.of(name).is_none() => format!(
                        "{name} is a table of a migration that is complete, {}, and control table \
                         {control_table} is configured: set {ControlTable} to that of its migration",
                        done.title()
                    ),
                    _ => continue,
                },
                Some(_) => continue,
            };
            return Err(Error::source(Kind::Misconfigured, "telling migrations apart", message));
        }
        self.set_aside(mine.is_some());
        Ok(())
    }
}
