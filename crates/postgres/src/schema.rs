//! Lockstep's own tables, kept in schema `lockstep` by embedded migrations.

use std::borrow::Cow;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgPool, SqlSafeStr};

use super::{Source, lock_tries};
use crate::fault::of_sqlx;
use crate::sql;

/// Every migration, in the order in which they are applied. One that has been released is never edited:
/// sqlx holds their checksums.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "control", include_str!("control.sql")),
    (2, "intents", include_str!("intents.sql")),
    (3, "instances", include_str!("instances.sql")),
    (4, "reverse", include_str!("reverse.sql")),
    (6, "unverified", include_str!("unverified.sql")),
    (8, "level", include_str!("level.sql")),
    (9, "history", include_str!("history.sql")),
    (10, "rights", include_str!("rights.sql")),
    // Before the identity: there is no moment at which a process of a completed migration finds an identity
    // and not itself.
    (47, "completed", include_str!("completed.sql")),
    (11, "owner", include_str!("owner.sql")),
    (12, "digest", include_str!("digest.sql")),
    (13, "settings", include_str!("settings.sql")),
    (14, "contract", include_str!("contract.sql")),
    (15, "workers", include_str!("workers.sql")),
    (18, "riders", include_str!("riders.sql")),
    (16, "way_on", include_str!("way_on.sql")),
    (17, "central", include_str!("central.sql")),
    (19, "contract_order", include_str!("contract_order.sql")),
    (24, "imports", include_str!("imports.sql")),
    (26, "cured", include_str!("cured.sql")),
    (27, "planned", include_str!("planned.sql")),
    (28, "compared", include_str!("compared.sql")),
    (30, "asked", include_str!("asked.sql")),
    (31, "relays", include_str!("relays.sql")),
    (33, "verdict_order", include_str!("verdict_order.sql")),
    (34, "comparisons", include_str!("comparisons.sql")),
    (35, "notes_kept", include_str!("notes_kept.sql")),
    (39, "contradicted", include_str!("contradicted.sql")),
    (40, "late_requests", include_str!("late_requests.sql")),
    (42, "intents_of_a_role", include_str!("intents_of_a_role.sql")),
    (43, "numbers_kept", include_str!("numbers_kept.sql")),
    (44, "foreign_versions", include_str!("foreign_versions.sql")),
    (45, "blocks", include_str!("blocks.sql")),
    (48, "told_after", include_str!("told_after.sql")),
    (49, "frozen_hint", include_str!("frozen_hint.sql")),
    (50, "settings_kept", include_str!("settings_kept.sql")),
    (56, "accepted_state", include_str!("accepted_state.sql")),
    (57, "times_of_ours", include_str!("times_of_ours.sql")),
    (58, "known_columns", include_str!("known_columns.sql")),
    (60, "copies", include_str!("copies.sql")),
    (62, "slowed", include_str!("slowed.sql")),
    (64, "removed_notes", include_str!("removed_notes.sql")),
    (66, "brought", include_str!("brought.sql")),
    (72, "same_key", include_str!("same_key.sql")),
    (73, "own_lease", include_str!("own_lease.sql")),
    (74, "seen_markers", include_str!("seen_markers.sql")),
    (78, "direct_parts", include_str!("direct_parts.sql")),
];

/// Those that stand among older ones: what an earlier version left has the older ones, and not these.
const AMONG_OLDER: [i64; 1] = [47];

impl Source {
    /// Creates or updates schema `lockstep`. Safe to repeat and to run from several processes at once.
    ///
    /// Cancel safe: once begun it goes on to its end, and the next caller is not kept waiting.
    ///
    /// # Errors
    /// [`Kind::Denied`] where the role may not create schemas, [`Kind::Misconfigured`] where a newer Lockstep
    /// was here, or where a schema of that name is another role's.
    #[crate::boxed]
    pub async fn migrate_schema(&self) -> Result<()> {
        self.install_first(MIGRATIONS.len()).await
    }

    /// Installs the schema as it was after the first of the migrations in the order of their releases, as an
    /// earlier version left it, for tests of the upgrade. Returns how many there are.
    ///
    /// # Errors
    /// Those of [`Source::migrate_schema`].
    #[doc(hidden)]
    #[crate::boxed]
    pub async fn migrate_schema_as_of(&self, migrations: usize) -> Result<usize> {
        self.install_first(migrations).await.map(|()| MIGRATIONS.len())
    }

    async fn install_first(&self, migrations: usize) -> Result<()> {
        self.refuse_foreign_schemas().await?;
        let schema = sql::control_schema();
        let is_released = |version: i64| migrations >= MIGRATIONS.len() || !AMONG_OLDER.contains(&version);
        let released = MIGRATIONS.iter().filter(|(version, ..)| is_released(*version));
        let migrations = released.take(migrations).map(|(version, name, sql)| {
            let released = Migration::new(
                *version,
                Cow::Borrowed(name),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            );
            // Its checksum is that of the text as it was released, whatever the schema is called.
            Migration { sql: sql::text(*sql), ..released }
        });
        let migrator = Migrator {
            migrations: migrations.collect(),
            // Not `public._sqlx_migrations`, which the application itself may be using.
            table_name: Cow::Owned(format!("{schema}.schema_migrations")),
            create_schemas: Cow::Owned(vec![Cow::Borrowed(schema)]),
            ..Migrator::DEFAULT
        };
        // The migrator holds an advisory lock of its session from its first statement to its last. A caller
        // that goes away between them would give the session back to the pool with the lock in it, and a
        // process that starts after that would wait until this process ends. So it goes on by itself.
        let pool = self.pool().clone();
        let made =
            tokio::spawn(async move { lock_tries::TABLE.repeat(|| run(&migrator, &pool)).await }).await;
        made.map_err(|_| Error::source(Kind::Unavailable, DOING, "this process is ending"))?
    }

    /// Tells whether schema `lockstep` is there, without touching anything. One that is known to be another
    /// migration's ([`Source::is_aside`]) is not.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn has_schema(&self) -> Result<bool> {
        Ok(!self.is_aside() && self.is_schema_taken().await?)
    }

    /// Tells whether there is a schema `lockstep`, whichever migration it is of.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn is_schema_taken(&self) -> Result<bool> {
        sql::query_scalar("SELECT pg_catalog.to_regclass('lockstep.control') IS NOT NULL")
            .fetch_one(self.pool())
            .await
            .doing("looking for Lockstep's schema")
    }
}

const DOING: &str = "creating Lockstep's schema";

/// Runs the migrations.
async fn run(migrator: &Migrator, pool: &PgPool) -> Result<()> {
    let mut connection = pool.acquire().await.doing(DOING)?;
    // The first migration, as it was released, calls `setval` without its schema.
    super::make_own_session(&mut connection).await.doing(DOING)?;
    let made = migrator.run_direct(None, &mut *connection, false).await;
    // Closes the connection: after a failure it still holds the advisory lock, and an application's session
    // must not keep our `search_path`.
    let _ = connection.close().await;
    made.map_err(of_migrator)
}

fn of_migrator(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => of_sqlx(DOING, e),
        MigrateError::VersionMissing(number) | MigrateError::VersionMismatch(number) => {
            let newest = MIGRATIONS.iter().map(|(number, ..)| *number).max().unwrap_or_default();
            let message = format!(
                "schema {} has migration {number}, and this version knows those up to {newest}: a newer \
                 version of Lockstep was here, or one that is not of this line. Nothing was changed; use that \
                 version, or a newer one, for every command",
                sql::control_schema()
            );
            Error::source(Kind::Misconfigured, DOING, message)
        }
        other => Error::source(Kind::Misconfigured, DOING, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_complete_are_listed_before_there_is_an_identity() {
        let at =
            |name: &str| MIGRATIONS.iter().position(|(_, known, _)| *known == name).expect("it is there");
        assert!(at("completed") < at("owner"));
    }

    #[test]
    fn a_schema_of_a_newer_version_is_refused_with_what_was_found_what_is_known_and_what_to_do() {
        let known = MIGRATIONS.iter().map(|(number, ..)| *number).max().expect("there are some");
        for error in [MigrateError::VersionMissing(999), MigrateError::VersionMismatch(999)] {
            let error = of_migrator(error);
            assert_eq!(error.kind, Kind::Misconfigured);
            let expected = [
                "migration 999".to_owned(),
                format!("up to {known}"),
                "use that version, or a newer one".to_owned(),
            ];
            for part in expected {
                assert!(error.message.contains(&part), "{part}: {}", error.message);
            }
        }
    }
}
