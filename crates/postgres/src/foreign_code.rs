//! Code of other roles that a write of ours would run with our rights.
//!
//! 1. A role that may create functions makes a domain, and a table has a column of it. 2. It gives the domain
//! a CHECK that calls its function. 3. The reverse feed writes a row as the operator, and so does the
//! function.
//!
//! In three statements, by the ids that the one before found: in one, the planner knows nothing of how few
//! they are, and compiles it for seconds.

use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::{Relation, Source, TableBinding};
use crate::sql;

const DOING: &str = "asking whose code the writes of a table run";

/// A table with everything that a statement over it reads: partitions, and tables that inherit from it.
const TABLES: &str = "
    WITH RECURSIVE tree (oid) AS (
        SELECT pg_catalog.to_regclass($1)::oid WHERE pg_catalog.to_regclass($1) IS NOT NULL
        UNION SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
    SELECT t.oid FROM tree t";

/// The types of their columns, with what those are made of.
pub(crate) const TYPES: &str = "
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
                WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass::oid AND d.objid = y.oid
                AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass::oid
            OFFSET 0) AS part (oid))
    SELECT y.oid FROM types y";

/// Query for what calls a function, of the tables and types, with the owner of each function; the owner of a
/// domain may have it call another one at any time. Code of superusers is trusted, and so is code of the
/// owner of table `$3`, who may do anything to it.
///
/// The owner of any other type may make casts of it, which our statements would run: 1. A column is an enum,
/// and the table goes to the operator, the enum not. 2. Its owner makes a cast from text to it, with a
/// function of its own. 3. The relay looks for the row of a key, whose text is cast to the enum. And the
/// owner of a partition gives it a trigger at any time.
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
        SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, 'statistics ' || s.stxname
            FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = ANY($1)
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
        SELECT CASE p.typtype WHEN 'd' THEN 'domain ' ELSE 'type ' END || p.typname, p.typowner
            FROM pg_catalog.pg_type p WHERE p.oid = ANY($2) AND p.typtype <> 'm'
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = p.oid)
        UNION ALL
        -- The owner of each may give it such code at any time.
        SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
                    THEN 'partition ' ELSE 'table ' END || c.relname, c.relowner
            FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)
        UNION ALL
        -- Of a type of our tables to another one, to text, or to JSON, and back.
        SELECT 'the cast from ' || s.typname || ' to ' || t.typname, p.proowner
            FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
            JOIN pg_catalog.pg_type s ON s.oid = k.castsource
            JOIN pg_catalog.pg_type t ON t.oid = k.casttarget
            WHERE (s.oid = ANY($2) OR t.oid = ANY($2))
            AND (s.oid = ANY($2) OR s.typnamespace = 'pg_catalog'::pg_catalog.regnamespace)
            AND (t.oid = ANY($2) OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace))
    SELECT DISTINCT code.name || ' (' || r.rolname || ')' FROM code
    JOIN pg_catalog.pg_roles r ON r.oid = code.owner
    WHERE NOT r.rolsuper AND r.rolname <> current_user
        AND code.owner IS DISTINCT FROM (SELECT c.relowner FROM pg_catalog.pg_class c
            WHERE c.oid = pg_catalog.to_regclass($3)::oid)
    ORDER BY 1";

/// Kinds of code that a mere read of a table runs: PostgreSQL works out their constants while it plans,
/// before it asks for a right. And whose the table and its partitions are, who may give them such code.
const READ: [&str; 5] = ["index ", "constraint ", "table ", "partition ", "statistics "];

impl Source {
    /// Triggers, constraints, expressions, rules, indexes, statistics, types, casts and partitions of a
    /// table that run code of a role that is neither ours, nor the table's owner, nor a superuser, or may
    /// have it run at any time: `trigger name (role)`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign_code(&self, binding: &TableBinding) -> Result<Vec<String>> {
        let mut connection = self.pool().acquire().await.doing(DOING)?;
        let tables = tables_of(&mut connection, &binding.relation).await?;
        let types: Vec<Oid> =
            sql::query_scalar(TYPES).bind(&tables).fetch_all(&mut *connection).await.doing(DOING)?;
        code(&mut connection, &tables, &types, binding).await
    }
}

/// Indexes, constraints, statistics and keys of partitioning of a relation that is read, which call code of a
/// role that is neither ours, nor a superuser, nor the owner of the moved table, and what of it is such a
/// role's.
pub(crate) async fn code_of_reads(
    connection: &mut PgConnection,
    relation: &Relation,
    moved: &TableBinding,
) -> Result<Vec<String>> {
    let tables = tables_of(connection, relation).await?;
    let found = code(connection, &tables, &[], moved).await?;
    Ok(found.into_iter().filter(|code| READ.iter().any(|what| code.starts_with(what))).collect())
}

async fn tables_of(connection: &mut PgConnection, relation: &Relation) -> Result<Vec<Oid>> {
    sql::query_scalar(TABLES).bind(relation.sql()).fetch_all(connection).await.doing(DOING)
}

async fn code(
    connection: &mut PgConnection,
    tables: &[Oid],
    types: &[Oid],
    moved: &TableBinding,
) -> Result<Vec<String>> {
    let code = sql::query_scalar(CODE).bind(tables).bind(types).bind(moved.relation.sql());
    code.fetch_all(connection).await.doing(DOING)
}
