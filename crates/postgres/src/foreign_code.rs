//! Code of other roles that a write of ours would run with our rights.
//!
//! 1. A role that may create functions makes a domain, and a table has a column of it. 2. It gives the domain
//! a CHECK that calls its function. 3. The reverse feed writes a row as the operator, and so does the
//! function.
//!
//! In three statements, by the ids that the one before found: in one, the planner knows nothing of how few
//! they are, and compiles it for seconds.

use lockstep_core::{Doing, Result};
use sqlx::postgres::types::Oid;

use super::{Source, TableBinding};
use crate::sql;

/// A table and its partitions.
const TABLES: &str = "
    SELECT pg_catalog.to_regclass($1)::oid WHERE pg_catalog.to_regclass($1) IS NOT NULL
    UNION SELECT l.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS l";

/// The types of their columns, with what those are made of.
const TYPES: &str = "
    WITH RECURSIVE types AS (
        SELECT a.atttypid AS oid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT part.oid FROM types y CROSS JOIN LATERAL (
            SELECT p.typbasetype FROM pg_catalog.pg_type p WHERE p.oid = y.oid AND p.typbasetype <> 0
            UNION ALL
            SELECT p.typelem FROM pg_catalog.pg_type p WHERE p.oid = y.oid AND p.typelem <> 0
            UNION ALL
            SELECT a.atttypid FROM pg_catalog.pg_type p JOIN pg_catalog.pg_attribute a ON a.attrelid = p.typrelid
                WHERE p.oid = y.oid AND p.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = y.oid
            UNION ALL
            -- Whatever else a type is made of, as a multirange of a range: no column of version 13 says that.
            SELECT d.refobjid FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = y.oid
                AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
            OFFSET 0) AS part (oid))
    SELECT y.oid FROM types y";

/// Query for what calls a function, of the tables and types, with the owner of each function; the owner of a
/// domain may have it call another one at any time. Code of superusers is trusted, and so is code of the
/// owner of the table, who may do anything to it.
const CODE: &str = "
    WITH objects AS MATERIALIZED (
        SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass AS class, g.oid, 'trigger ' || g.tgname AS name
            FROM pg_catalog.pg_trigger g WHERE g.tgrelid = ANY($1) AND NOT g.tgisinternal
        UNION ALL
        SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 'constraint ' || k.conname
            FROM pg_catalog.pg_constraint k WHERE k.conrelid = ANY($1)
        UNION ALL
        SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 'constraint ' || k.conname
            FROM pg_catalog.pg_constraint k WHERE k.contypid = ANY($2)
        UNION ALL
        SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid, 'the expression of column ' || a.attname
            FROM pg_catalog.pg_attrdef d
            JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            WHERE d.adrelid = ANY($1)
        UNION ALL
        SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid, 'rule ' || w.rulename
            FROM pg_catalog.pg_rewrite w WHERE w.ev_class = ANY($1)
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, 'index ' || c.relname
            FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = ANY($1)
        UNION ALL
        -- A partition is chosen by a function of the key.
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, 'table ' || c.relname
            FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)
        UNION ALL
        -- Its own input, and what a range is brought into one form, and measured, by.
        SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, p.oid, 'type ' || p.typname
            FROM pg_catalog.pg_type p WHERE p.oid = ANY($2)),
    called AS MATERIALIZED (
        SELECT o.name, d.refclassid, d.refobjid FROM objects o CROSS JOIN LATERAL (
            SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
            WHERE d.classid = o.class AND d.objid = o.oid OFFSET 0) AS d),
    code AS (
        SELECT c.name, p.proowner AS owner FROM called c JOIN pg_catalog.pg_proc p ON p.oid = c.refobjid
            WHERE c.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        UNION ALL
        SELECT c.name, p.proowner FROM called c JOIN pg_catalog.pg_operator f ON f.oid = c.refobjid
            JOIN pg_catalog.pg_proc p ON p.oid = f.oprcode::oid
            WHERE c.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass
        UNION ALL
        SELECT 'domain ' || p.typname, p.typowner
            FROM pg_catalog.pg_type p WHERE p.oid = ANY($2) AND p.typtype = 'd')
    SELECT DISTINCT code.name || ' (' || r.rolname || ')' FROM code
    JOIN pg_catalog.pg_roles r ON r.oid = code.owner
    WHERE NOT r.rolsuper AND r.rolname <> current_user
        AND code.owner NOT IN (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = ANY($1))
    ORDER BY 1";

impl Source {
    /// Triggers, constraints, expressions, rules, indexes and domains of a table that run code of a role that
    /// is neither ours, nor the table's owner, nor a superuser: `trigger name (role)`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign_code(&self, binding: &TableBinding) -> Result<Vec<String>> {
        let doing = "asking whose code the writes of a table run";
        let mut connection = self.pool().acquire().await.doing(doing)?;
        let tables: Vec<Oid> = sql::query_scalar(TABLES)
            .bind(binding.relation.sql())
            .fetch_all(&mut *connection)
            .await
            .doing(doing)?;
        let types: Vec<Oid> =
            sql::query_scalar(TYPES).bind(&tables).fetch_all(&mut *connection).await.doing(doing)?;
        sql::query_scalar(CODE).bind(&tables).bind(&types).fetch_all(&mut *connection).await.doing(doing)
    }
}
