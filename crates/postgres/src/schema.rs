//! Lockstep's own tables, kept in schema `lockstep` by embedded migrations.

use std::borrow::Cow;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::Source;

/// Every migration, oldest first. One that has been released is never edited: sqlx holds their checksums.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "control", include_str!("control.sql")),
    (2, "intents", include_str!("intents.sql")),
    (3, "instances", include_str!("instances.sql")),
    (4, "reverse", include_str!("reverse.sql")),
    (6, "unverified", include_str!("unverified.sql")),
    (8, "level", include_str!("level.sql")),
    (9, "history", include_str!("history.sql")),
];

impl Source {
    /// Creates or updates schema `lockstep`. Safe to repeat and to run from several processes at once.
    ///
    /// Cancel safe: once begun it goes on to its end, and whoever asks next is not kept waiting.
    ///
    /// # Errors
    /// [`Kind::Denied`] where the role may not create schemas, [`Kind::Misconfigured`] where a newer Lockstep was here.
    pub async fn migrate_schema(&self) -> Result<()> {
        let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
            let sql = AssertSqlSafe((*sql).to_owned()).into_sql_str();
            Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        });
        let migrator = Migrator {
            migrations: migrations.collect(),
            // Not `public._sqlx_migrations`, which the application itself may be using.
            table_name: Cow::Borrowed("lockstep.schema_migrations"),
            create_schemas: Cow::Borrowed(&[Cow::Borrowed("lockstep")]),
            ..Migrator::DEFAULT
        };
        // The migrator holds an advisory lock of its session from its first statement to its last. A caller that goes away
        // between them would give the session back to the pool with the lock in it, and whoever starts after that would wait
        // until this process ends. So it goes on by itself.
        let pool = self.pool().clone();
        let made = tokio::spawn(async move { migrator.run(&pool).await }).await;
        let made = made.map_err(|_| Error::source(Kind::Unavailable, "creating schema lockstep", "this process is ending"))?;
        made.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(e) | sqlx::migrate::MigrateError::ExecuteMigration(e, _) => {
                Error::of_sqlx("creating schema lockstep", e)
            }
            other => Error::source(
                Kind::Misconfigured,
                "creating schema lockstep",
                format!("{other}; was it made by a newer version of Lockstep?"),
            ),
        })
    }

    /// Whether schema `lockstep` is there, without touching anything.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn has_schema(&self) -> Result<bool> {
        sqlx::query_scalar("SELECT to_regclass('lockstep.control') IS NOT NULL")
            .fetch_one(self.pool())
            .await
            .doing("looking for schema lockstep")
    }
}
