//! Code of other roles that a write of ours would run with our rights.
//!
//! 1. A role that may create functions makes a domain, and a table has a column of it. 2. It gives the domain a CHECK
//! that calls its function. 3. The reverse feed writes a row as the operator, and so does the function.

use lockstep_core::{Doing, Result};

use super::{Source, TableBinding};

/// What of a table, its partitions, and the types of its columns calls a function, with the owner of each function;
/// the owner of a domain may have it call another one at any time. What superusers own is trusted, and so is what
/// belongs to the owner of the table, who may do anything to it.
const CODE: &str = "
    WITH RECURSIVE tables AS (
        SELECT pg_catalog.to_regclass($1)::oid AS oid
        UNION SELECT l.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS l),
    types AS (
        SELECT a.atttypid AS oid FROM pg_catalog.pg_attribute a JOIN tables t ON t.oid = a.attrelid
            WHERE a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT part.oid FROM types y JOIN pg_catalog.pg_type p ON p.oid = y.oid CROSS JOIN LATERAL (
            SELECT p.typbasetype UNION ALL SELECT p.typelem
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = p.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS part (oid)),
    objects AS (
        SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass AS class, g.oid, 'trigger ' || g.tgname AS name
            FROM pg_catalog.pg_trigger g JOIN tables t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal
        UNION ALL
        SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 'constraint ' || k.conname
            FROM pg_catalog.pg_constraint k
            WHERE k.conrelid IN (SELECT t.oid FROM tables t) OR k.contypid IN (SELECT y.oid FROM types y)
        UNION ALL
        SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, d.oid, 'the expression of column ' || a.attname
            FROM pg_catalog.pg_attrdef d JOIN tables t ON t.oid = d.adrelid
            JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        UNION ALL
        SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid, 'rule ' || w.rulename
            FROM pg_catalog.pg_rewrite w JOIN tables t ON t.oid = w.ev_class
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, 'index ' || c.relname
            FROM pg_catalog.pg_index i JOIN tables t ON t.oid = i.indrelid
            JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid),
    code AS (
        SELECT o.name, p.proowner AS owner FROM objects o
            JOIN pg_catalog.pg_depend d ON d.classid = o.class AND d.objid = o.oid
            LEFT JOIN pg_catalog.pg_operator f
                ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND f.oid = d.refobjid
            JOIN pg_catalog.pg_proc p ON p.oid = coalesce(f.oprcode::oid,
                CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid END)
        UNION
        SELECT 'domain ' || p.typname, p.typowner
            FROM types y JOIN pg_catalog.pg_type p ON p.oid = y.oid WHERE p.typtype = 'd')
    SELECT DISTINCT code.name || ' (' || r.rolname || ')' FROM code
    JOIN pg_catalog.pg_roles r ON r.oid = code.owner
    WHERE NOT r.rolsuper AND r.rolname <> current_user AND code.owner NOT IN
        (SELECT c.relowner FROM pg_catalog.pg_class c JOIN tables t ON t.oid = c.oid)
    ORDER BY 1";

impl Source {
    /// Triggers, constraints, expressions, rules, indexes and domains of a table that run code of a role that is
    /// neither ours, nor the table's owner, nor a superuser: `trigger name (role)`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign_code(&self, binding: &TableBinding) -> Result<Vec<String>> {
        sqlx::query_scalar(CODE)
            .bind(binding.relation.sql())
            .fetch_all(self.pool())
            .await
            .doing("asking whose code the writes of a table run")
    }
}
