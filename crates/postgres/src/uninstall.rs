//! Taking Lockstep out of a database: its triggers and its schema, and nothing else.
//!
//! What there is to take out is asked of the catalogue, and not of a configuration: 1. A table is renamed, or
//! left out of the file. 2. A removal by the file leaves its trigger. 3. The trigger calls a function of a
//! schema that is gone, and every write to the table fails.

use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::barrier::limit_lock_waits;
use super::{Source, take_exclusive, vacuum};
use crate::sql::{self, Run as _};

/// Objects that were taken out.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Uninstalled {
    /// Triggers, each as `trigger on schema.table`.
    pub triggers: Vec<String>,
}

/// Query for whatever outside of schema `lockstep` would go with it, or keep it from going.
const DEPENDENTS: &str = "
    WITH ours AS (
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, c.oid FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'lockstep'
        UNION ALL
        SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid FROM pg_catalog.pg_proc p
            JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'lockstep'
        UNION ALL
        SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid FROM pg_catalog.pg_type t
            JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'lockstep'),
    dependents AS (
        SELECT DISTINCT d.classid, d.objid, d.objsubid,
            coalesce(r.ev_class, t.tgrelid, a.adrelid, nullif(k.conrelid, 0), o.oid) AS relation,
                f.pronamespace
        FROM pg_catalog.pg_depend d
        JOIN ours ON ours.class = d.refclassid AND ours.oid = d.refobjid
        LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND
            r.oid = d.objid
        LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND
            t.oid = d.objid
        LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND
            a.oid = d.objid
        LEFT JOIN pg_catalog.pg_constraint k ON d.classid =
            'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
        LEFT JOIN pg_catalog.pg_class o ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND
            o.oid = d.objid
        LEFT JOIN pg_catalog.pg_proc f ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.oid
            = d.objid
        -- The triggers of our own name are taken out before.
        WHERE t.oid IS NULL OR (t.tgname NOT LIKE 'zz\\_lockstep\\_%' AND NOT t.tgisinternal))
    SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) FROM dependents d
    LEFT JOIN pg_catalog.pg_class c ON c.oid = d.relation
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, d.pronamespace)
    WHERE n.nspname IS NOT NULL AND n.nspname NOT IN ('lockstep', 'pg_toast')
    ORDER BY 1";

/// Our triggers, wherever they are; those of partitions go with their parent's.
const TRIGGERS: &str = "
    SELECT pg_catalog.format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname),
        pg_catalog.format('%s on %s.%s', t.tgname, n.nspname, c.relname)
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace of ON of.oid = p.pronamespace
    WHERE of.nspname = 'lockstep' AND NOT t.tgisinternal AND t.tgname LIKE 'zz\\_lockstep\\_%'
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid =
            'pg_catalog.pg_trigger'::pg_catalog.regclass
            AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_trigger'::pg_catalog.regclass)
    ORDER BY 2";

/// The tables that have one.
const TRIGGER_TABLES: &str = "
    SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace of ON of.oid = p.pronamespace
    WHERE of.nspname = 'lockstep' AND n.nspname <> 'lockstep' AND NOT t.tgisinternal
        AND t.tgname LIKE 'zz\\_lockstep\\_%' AND NOT c.relispartition
    ORDER BY 1";

/// Event triggers, which belong to no table.
const EVENT_TRIGGERS: &str = "
    SELECT pg_catalog.format('DROP EVENT TRIGGER %I', e.evtname), e.evtname::text
    FROM pg_catalog.pg_event_trigger e
    JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'lockstep'
    ORDER BY 2";

impl Source {
    /// Returns what is not Lockstep's and depends on schema `lockstep`, in PostgreSQL's words.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn dependents_on_schema(&self) -> Result<Vec<String>> {
        let mut connection = self.pool().acquire().await.doing(LOOKING)?;
        dependents(&mut connection).await
    }

    /// Takes out the triggers and schema `lockstep`: all of it, or nothing. Whether it may be done is the
    /// caller's to know.
    ///
    /// # Errors
    /// [`Kind::Busy`] when a lock could not be acquired within `lock_timeout`; [`Kind::Refused`] when
    /// something that is not Lockstep's depends on the schema; the driver's.
    ///
    /// # Cancel safety
    /// Repeat it: where nothing is there, nothing is done.
    #[crate::boxed]
    pub async fn uninstall(&self, lock_timeout: Duration) -> Result<Uninstalled> {
        let doing = "taking Lockstep out of the source";
        let mut transaction = self.begin(doing).await?;
        // The tables before the barrier: a writer of a busy table holds its row and waits in the trigger for
        // the barrier, which would be ours while we wait for the table.
        let tables: Vec<String> =
            sql::query_scalar(TRIGGER_TABLES).fetch_all(&mut *transaction).await.doing(doing)?;
        for table in &tables {
            vacuum::hold_off(&mut transaction, table).await?;
        }
        limit_lock_waits(&mut transaction, lock_timeout).await?;
        for table in tables {
            let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
            transaction.execute(AssertSqlSafe(lock)).await.doing(doing)?;
        }
        // Every transaction that has begun to write ends first, so that no transaction is captured by half.
        take_exclusive(&mut transaction, lock_timeout).await?;
        limit_lock_waits(&mut transaction, lock_timeout).await?;
        let mut removed = Uninstalled::default();
        for sql in [EVENT_TRIGGERS, TRIGGERS] {
            let found: Vec<(String, String)> =
                sql::query_as(sql).fetch_all(&mut *transaction).await.doing(doing)?;
            for (drop, name) in found {
                transaction.execute(AssertSqlSafe(drop)).await.doing(doing)?;
                removed.triggers.push(name);
            }
        }
        let others = dependents(&mut transaction).await?;
        if !others.is_empty() {
            let message = format!(
                "{} would go with schema {}; nothing was changed",
                others.join(", "),
                sql::control_schema()
            );
            return Err(Error::source(Kind::Refused, doing, message));
        }
        transaction.execute("DROP SCHEMA IF EXISTS lockstep CASCADE").await.doing(doing)?;
        transaction.commit().await.doing(doing)?;
        Ok(removed)
    }
}

const LOOKING: &str = "looking for what depends on Lockstep's schema";

pub(crate) async fn dependents(connection: &mut PgConnection) -> Result<Vec<String>> {
    sql::query_scalar(DEPENDENTS).fetch_all(connection).await.doing(LOOKING)
}
