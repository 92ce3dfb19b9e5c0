//! Lockstep's own tables, kept in schema `lockstep` by embedded migrations.

use std::borrow::Cow;
use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr};

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
    (12, "digest", include_str!("digest.sql")),
];

/// How often a migration is tried whose lock an application's transaction holds: with the pauses, about two minutes.
const LOCK_TRIES: u32 = 120;
const LOCK_PAUSE: Duration = Duration::from_millis(700);

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
        let made = tokio::spawn(async move { run(&migrator, &pool).await }).await;
        made.map_err(|_| Error::source(Kind::Unavailable, DOING, "this process is ending"))?
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

const DOING: &str = "creating schema lockstep";

/// Runs the migrations. One that waits in vain for the lock of a table is tried again, so that it is the migration that waits for
/// a long transaction, and no writer behind it.
async fn run(migrator: &Migrator, pool: &PgPool) -> Result<()> {
    for attempt in 1.. {
        let mut connection = pool.acquire().await.doing(DOING)?;
        let error = match migrator.run_direct(None, &mut *connection, false).await {
            Ok(()) => return Ok(()),
            Err(error) => of_migrator(error),
        };
        // After a failure the migrator leaves its advisory lock to the session, which takes it along.
        let _ = connection.close().await;
        if error.kind != Kind::Busy || attempt >= LOCK_TRIES {
            return Err(error);
        }
        tracing::info!(attempt, "a table is locked by a long transaction; trying again");
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    unreachable!("the loop returns")
}

fn of_migrator(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => Error::of_sqlx(DOING, e),
        other => Error::source(Kind::Misconfigured, DOING, format!("{other}; was it made by a newer version of Lockstep?")),
    }
}
