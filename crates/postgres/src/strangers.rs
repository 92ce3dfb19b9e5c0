//! Reach of other roles into a migration: locks of ours that they hold, transactions they prepared, and
//! rights that our own role lacks. Code of theirs is in `foreign_code`.

use lockstep_core::{Doing, Result};

use super::{Source, TableBinding, barrier};
use crate::sql;

/// A session that holds a lock of ours, and is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow, serde::Serialize)]
pub struct ForeignHolder {
    /// Number of its PostgreSQL backend.
    pub pid: i32,
    /// Role of its session.
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
    #[crate::boxed]
    pub async fn foreign_holders(&self) -> Result<Vec<ForeignHolder>> {
        sql::query_as(
            "SELECT l.pid, a.usename::text AS role, pg_catalog.bool_or(l.objid::int = $2) AS barrier
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
             WHERE l.locktype = 'advisory' AND l.granted AND l.classid::int = $1 AND l.objsubid = 2
                 AND (l.mode = 'ExclusiveLock' OR l.objid::int <> $2) AND a.usename <> current_user
                 AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                     WHERE d.datname = pg_catalog.current_database())
             GROUP BY l.pid, a.usename ORDER BY l.pid",
        )
        .bind(barrier().0)
        .bind(barrier().1)
        .fetch_all(self.pool())
        .await
        .doing("asking which other roles hold locks of Lockstep")
    }

    /// Tells whether our role is a superuser.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_superuser(&self) -> Result<bool> {
        sql::query_scalar("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
            .fetch_one(self.pool())
            .await
            .doing("asking what our role may do")
    }

    /// Prepared transactions of this database, with who prepared them and for how many seconds they have
    /// waited: they hold the locks of what they wrote, over any restart, and no list of sessions shows them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn prepared_transactions(&self) -> Result<Vec<Prepared>> {
        sql::query_as(
            "SELECT gid, owner::text AS role,
                 extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8 AS waits_s
             FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY \
             prepared",
        )
        .fetch_all(self.pool())
        .await
        .doing("asking for prepared transactions")
    }

    /// Returns the rights that our role lacks for a migration of this table, a sentence each: the owner of
    /// the table and of each of its partitions installs capture, and a role that may create a schema makes
    /// ours.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn missing_rights(&self, binding: &TableBinding) -> Result<Vec<String>> {
        let found: Vec<(String, String, String, bool, bool, bool)> = sql::query_as(
            "SELECT current_user::text,
                 CASE WHEN c.oid = pg_catalog.to_regclass($1)::oid THEN ''
                     ELSE pg_catalog.format('partition %I.%I', n.nspname, c.relname) END,
                 pg_catalog.pg_get_userbyid(c.relowner)::text,
                 pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE'),
                 pg_catalog.to_regnamespace('lockstep') IS NOT NULL
                     OR pg_catalog.has_database_privilege(current_user,
                         pg_catalog.current_database(), 'CREATE'),
                 pg_catalog.has_schema_privilege(current_user, c.relnamespace, 'USAGE')
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid IN (SELECT pg_catalog.to_regclass($1)::oid UNION ALL
                 SELECT l.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS l)
             ORDER BY c.oid <> pg_catalog.to_regclass($1)::oid, 2",
        )
        .bind(binding.relation.sql())
        .fetch_all(self.pool())
        .await
        .doing("asking for the rights of our role")?;
        let mut missing: Vec<String> = Vec::new();
        for (role, partition, owner, owns, creates, uses) in found {
            let relation = match partition.is_empty() {
                true => binding.relation.to_string(),
                false => format!("{partition} of {}", binding.relation),
            };
            if !owns {
                missing.push(format!(
                    "role {role} is not a member of {owner}, which owns {relation}: GRANT {owner} TO {role}"
                ));
            }
            // The database is the same for each.
            if !creates && partition.is_empty() {
                let schema = sql::control_schema();
                missing.push(format!("role {role} may not create schema {schema}: GRANT CREATE ON DATABASE"));
            }
            if !uses {
                missing.push(format!("role {role} has no USAGE on the schema of {relation}"));
            }
        }
        Ok(missing)
    }
}

/// A transaction that was prepared for a two-phase commit and not ended.
#[derive(Clone, Debug, serde::Serialize, sqlx_macros::FromRow)]
pub struct Prepared {
    /// Name of the prepared transaction.
    pub gid: String,
    /// Role that prepared it.
    pub role: String,
    /// Time that it has waited, in seconds.
    pub waits_s: f64,
}
