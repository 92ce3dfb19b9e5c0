//! What other roles can do to a migration: locks of ours that they hold, and code of theirs that our writes
//! would run.

use lockstep_core::{Doing, Result};

use super::{BARRIER, Source, TableBinding};

/// A session that holds a lock of ours, and is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct ForeignHolder {
    /// Its PostgreSQL backend.
    pub pid: i32,
    /// Its role.
    pub role: String,
    /// Whether it holds the barrier: then no write goes on, or no step. Otherwise it keeps a coordinator or a
    /// feed out.
    pub barrier: bool,
}

impl Source {
    /// Sessions of other roles that hold an advisory lock of ours as no application does: exclusive. The
    /// barrier is taken shared by every write, and exclusive by the operator alone; the other locks are the
    /// operator's.
    ///
    /// # Errors
    /// The driver's.
    pub async fn foreign_holders(&self) -> Result<Vec<ForeignHolder>> {
        sqlx::query_as(
            "SELECT l.pid, a.usename::text AS role, pg_catalog.bool_or(l.objid::int = $2) AS barrier
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
             WHERE l.locktype = 'advisory' AND l.granted AND l.classid::int = $1 AND l.objsubid = 2
                 AND (l.mode = 'ExclusiveLock' OR l.objid::int <> $2) AND a.usename <> current_user
                 AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                     WHERE d.datname = pg_catalog.current_database())
             GROUP BY l.pid, a.usename ORDER BY l.pid",
        )
        .bind(BARRIER.0)
        .bind(BARRIER.1)
        .fetch_all(self.pool())
        .await
        .doing("asking which other roles hold locks of Lockstep")
    }

    /// Triggers on a table whose function is neither ours, nor the table owner's, nor a superuser's: `name
    /// (role)`.
    ///
    /// # Errors
    /// The driver's.
    pub async fn foreign_triggers(&self, binding: &TableBinding) -> Result<Vec<String>> {
        sqlx::query_scalar(
            "SELECT DISTINCT t.tgname || ' (' || r.rolname || ')' FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
             JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
             WHERE (t.tgrelid = pg_catalog.to_regclass($1) OR t.tgrelid IN
                     (SELECT l.relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS l))
                 AND NOT t.tgisinternal AND NOT r.rolsuper AND p.proowner <> c.relowner AND r.rolname <> current_user
             ORDER BY 1",
        )
        .bind(binding.relation.sql())
        .fetch_all(self.pool())
        .await
        .doing("asking whose functions the triggers of a table call")
    }

    /// Whether our role is a superuser.
    ///
    /// # Errors
    /// The driver's.
    pub async fn is_superuser(&self) -> Result<bool> {
        sqlx::query_scalar("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
            .fetch_one(self.pool())
            .await
            .doing("asking what our role may do")
    }
}
