//! A table as the catalogue describes it, for those who have no row type of it: declared tables, and the
//! proposal of a declaration.

use std::collections::BTreeMap;

use lockstep_core::{Doing, Result};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Relation, Source};
use crate::sql;

/// Facts about a table from the catalogue.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    /// Name of the relation.
    pub relation: Relation,
    /// Object id of the relation.
    pub oid: u32,
    /// Columns, in their order.
    pub columns: Vec<CatalogColumn>,
    /// Columns of the primary key, in its order; none where there is none.
    pub primary_key: Vec<String>,
    /// Indexes, those of constraints included.
    pub indexes: Vec<CatalogIndex>,
    /// Rows, as the planner believes.
    pub rows_estimate: i64,
    /// Reason why it cannot be moved, whatever is declared: a view, a partition and the like.
    pub immovable: Option<String>,
    /// Key by which it is partitioned, as `RANGE (created_at)`, and the number of partitions that hold its
    /// rows.
    pub partitions: Option<(String, i64)>,
}

/// A column.
#[derive(Clone, Debug)]
pub struct CatalogColumn {
    /// Name of the column.
    pub name: String,
    /// Type as `format_type()` prints it, with its modifier.
    pub sql_type: String,
    /// The type under all domains, without a modifier, as a statement may name it. A value is written through
    /// it, because a cast to `varchar(3)` would cut what is too long, and an assignment refuses it.
    pub base_type: String,
    /// The name of that type in `pg_catalog`, as `int8`; empty for types of others.
    pub builtin: String,
    /// Whether it is of a domain.
    pub is_domain: bool,
    /// Whether it is an enum, or a domain over one.
    pub is_enum: bool,
    /// The modifier of its type, -1 for none.
    pub modifier: i32,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether it is `GENERATED ALWAYS AS (…)`.
    pub generated: bool,
    /// The share of rows in which it is NULL, by the planner's statistics.
    pub null_share: Option<f32>,
    /// Distinct values, by the planner's statistics: below zero, that share of all rows.
    pub distinct: Option<f32>,
    /// The type of it, or of a part of it, whose text is of the catalogue or of settings and not of the value
    /// alone, as `regclass`: it prints another text after a rename, and no row has changed.
    pub unstable: Option<String>,
    /// Whether a function of this database, and none of an extension's, makes text of its type by a cast.
    pub cast_to_text: bool,
    /// Whether one makes its type of text.
    pub cast_from_text: bool,
}

/// An index.
#[derive(Clone, Debug)]
pub struct CatalogIndex {
    /// Name of the index.
    pub name: String,
    /// Key columns in their order; fewer than its keys where one of them is an expression.
    pub columns: Vec<String>,
    /// Whether it is unique, whole, checked at once, and over columns only: such one can stand for a primary
    /// key.
    pub identifies: bool,
    /// Whether it is unique.
    pub unique: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// Whether it has a predicate.
    pub partial: bool,
    /// Whether a key of it is an expression.
    pub has_expressions: bool,
    /// Access method, as `btree` or `gin`.
    pub method: String,
}

/// Query for the type of a column `a` below all domains, and its modifier.
pub(super) const UNDER_DOMAINS: &str = "WITH RECURSIVE d (oid, modifier) AS (
        SELECT a.atttypid, a.atttypmod
        UNION ALL
        SELECT t.typbasetype, CASE WHEN d.modifier = -1 THEN t.typtypmod ELSE d.modifier END
        FROM d JOIN pg_type t ON t.oid = d.oid WHERE t.typtype = 'd')
    SELECT d.oid, d.modifier FROM d JOIN pg_type t ON t.oid = d.oid WHERE t.typtype <> 'd'";

/// Query for the types that a type `y` is made of, one step down; 0 where there is none.
const PARTS: &str = "SELECT y.typbasetype
    UNION ALL SELECT y.typelem WHERE y.typcategory = 'A'
    UNION ALL SELECT r.rngsubtype FROM pg_range r
        WHERE y.oid IN (r.rngtypid, (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid)
    UNION ALL SELECT m.atttypid FROM pg_attribute m WHERE m.attrelid = y.typrelid
        AND m.attnum > 0 AND NOT m.attisdropped";

fn columns_sql() -> String {
    format!(
        "
WITH own_casts AS (
    SELECT w.castsource, w.casttarget FROM pg_cast w
    WHERE w.castmethod = 'f' AND w.oid >= 16384 AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = w.oid AND d.deptype = 'e'))
SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS sql_type, pg_catalog.format_type(b.oid, -1) AS base_type,
       CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE '' END AS builtin,
       a.atttypid <> b.oid AS is_domain, t.typtype = 'e' AS is_enum, b.modifier AS modifier,
       NOT a.attnotnull AS nullable, a.attgenerated <> '' AS generated, p.null_frac AS null_share, p.n_distinct AS distinct,
       -- What sessions of ours pin prints the same for ever: dates and times, money.
       (WITH RECURSIVE made_of (oid) AS (SELECT b.oid UNION SELECT u.oid FROM made_of
               JOIN pg_type y ON y.oid = made_of.oid CROSS JOIN LATERAL (
                   {PARTS}) AS u (oid) WHERE u.oid <> 0)
           SELECT pg_catalog.min(pg_catalog.format_type(y.oid, NULL)) FROM made_of JOIN pg_type y ON y.oid = made_of.oid
           JOIN pg_proc o ON o.oid = y.typoutput
           WHERE y.typtype = 'b' AND y.typcategory <> 'A' AND o.provolatile <> 'i'
             AND y.oid <> ALL (ARRAY['date', 'timestamp', 'timestamptz', 'interval', 'money']::regtype[])) AS unstable,
       EXISTS (SELECT FROM own_casts w WHERE w.castsource = b.oid AND w.casttarget = 'text'::regtype) AS cast_to_text,
       EXISTS (SELECT FROM own_casts w WHERE w.casttarget = b.oid AND w.castsource = 'text'::regtype) AS cast_from_text
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
CROSS JOIN LATERAL (
    {UNDER_DOMAINS}) AS b
JOIN pg_type t ON t.oid = b.oid
LEFT JOIN pg_stats p ON p.schemaname = c.relnamespace::regnamespace::name::text AND p.tablename = c.relname
                    AND p.attname = a.attname AND p.inherited = (c.relkind = 'p')
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    )
}

const INDEXES: &str = "
SELECT c.relname::text AS name, i.indisunique AS unique, i.indisprimary AS primary, i.indpred IS NOT NULL AS partial,
       i.indexprs IS NOT NULL AS has_expressions, m.amname::text AS method,
       i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS identifies,
       ARRAY(SELECT a.attname::text FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] ORDER BY k) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = $1 ORDER BY c.relname";

impl Source {
    /// Describes a relation; `None` where there is none of that name.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn catalog_table(&self, relation: &Relation) -> Result<Option<CatalogTable>> {
        let doing = format!("describing {relation}");
        let class = sql::query(
            "SELECT c.oid, c.relkind::text AS kind, c.relispartition AS partition, c.relpersistence::text AS persistence,
                    (SELECT coalesce(pg_catalog.sum(greatest(l.reltuples, 0)), 0)::bigint FROM pg_class l
                     WHERE l.oid = c.oid AND c.relkind <> 'p'
                         OR l.oid IN (SELECT t.relid::oid FROM pg_catalog.pg_partition_tree(c.oid) AS t WHERE t.isleaf AND c.relkind = 'p')) AS rows,
                    CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END AS partitioned_by,
                    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_partition_tree(c.oid) AS t WHERE t.isleaf) AS partitions,
                    EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AS inherits,
                    EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS inherited
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        )
        .bind(&relation.schema)
        .bind(&relation.name)
        .fetch_optional(self.pool())
        .await
        .doing(&doing)?;
        let Some(class) = class else { return Ok(None) };
        let oid = class.get::<sqlx::postgres::types::Oid, _>("oid");
        let columns =
            sql::query(AssertSqlSafe(columns_sql())).bind(oid).fetch_all(self.pool()).await.doing(&doing)?;
        let indexes = sql::query(INDEXES).bind(oid).fetch_all(self.pool()).await.doing(&doing)?;
        let indexes: Vec<CatalogIndex> = indexes.iter().map(index).collect();
        let primary = indexes.iter().find(|index| index.primary);
        Ok(Some(CatalogTable {
            relation: relation.clone(),
            oid: oid.0,
            columns: columns.iter().map(column).collect(),
            primary_key: primary.map(|index| index.columns.clone()).unwrap_or_default(),
            rows_estimate: class.get("rows"),
            immovable: immovable(&class),
            partitions: class
                .get::<Option<String>, _>("partitioned_by")
                .map(|by| (by, class.get("partitions"))),
            indexes,
        }))
    }

    /// Returns all ordinary and partitioned tables, views and foreign tables that are not PostgreSQL's, an
    /// extension's or Lockstep's own.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn relations(&self) -> Result<Vec<Relation>> {
        let found: Vec<(String, String)> = sql::query_as(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
               AND n.nspname <> 'information_schema' AND n.nspname !~ '^lockstep$|^lockstep_'
               AND n.nspname NOT LIKE 'pg\\_%' AND c.relpersistence <> 't'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass::oid AND d.objid = c.oid AND d.deptype = 'e')
             ORDER BY 1, 2",
        )
        .fetch_all(self.pool())
        .await
        .doing("listing tables")?;
        Ok(found.into_iter().map(|(schema, name)| Relation { schema, name }).collect())
    }

    /// Returns the labels of the columns that are enums, in their order.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn labels(&self, oid: u32) -> Result<BTreeMap<String, Vec<String>>> {
        let found: Vec<(String, Vec<String>)> = sql::query_as(
            "SELECT a.attname::text, pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
             FROM pg_attribute a JOIN pg_enum e ON e.enumtypid = a.atttypid
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attname",
        )
        .bind(sqlx::postgres::types::Oid(oid))
        .fetch_all(self.pool())
        .await
        .doing("reading the labels of enums")?;
        Ok(found.into_iter().collect())
    }

    /// Returns what the table has that DynamoDB does not: one sentence each.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn lost_in_target(&self, oid: u32) -> Result<Vec<String>> {
        sql::query_scalar(AssertSqlSafe(format!(
            "WITH RECURSIVE made_of (attname, oid) AS (
                 SELECT a.attname, a.atttypid FROM pg_attribute a
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
                 UNION
                 SELECT made_of.attname, u.oid FROM made_of JOIN pg_type y ON y.oid = made_of.oid
                 CROSS JOIN LATERAL (
                     {PARTS}) AS u (oid) WHERE u.oid <> 0)
             SELECT CASE k.contype WHEN 'c' THEN 'CHECK ' WHEN 'f' THEN 'the foreign key '
                    WHEN 'u' THEN 'UNIQUE ' ELSE 'the constraint ' END
                    || k.conname || ': ' || pg_catalog.pg_get_constraintdef(k.oid)
               FROM pg_constraint k WHERE k.conrelid = $1 AND k.contype IN ('c', 'f', 'u', 'x')
             UNION ALL
             SELECT 'the foreign key ' || k.conname || ' of ' || k.conrelid::regclass::text || ', which refers to it: '
                    || pg_catalog.pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.confrelid = $1 AND k.contype = 'f'
             UNION ALL
             SELECT 'CHECK ' || k.conname || ' of the domain ' || k.contypid::regtype::text || ', which `'
                    || made_of.attname || '` is made of: ' || pg_catalog.pg_get_constraintdef(k.oid)
               FROM made_of JOIN pg_constraint k ON k.contypid = made_of.oid WHERE k.contype = 'c'
             UNION ALL
             SELECT 'trigger ' || t.tgname FROM pg_trigger t
               WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgname NOT LIKE 'zz\\_lockstep\\_%'
             UNION ALL
             SELECT 'the unique index ' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE i.indrelid = $1 AND i.indisunique AND NOT i.indisprimary
                 AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
             ORDER BY 1",
        )))
        .bind(sqlx::postgres::types::Oid(oid))
        .fetch_all(self.pool())
        .await
        .doing("listing what DynamoDB would not have")
    }
}

fn column(row: &PgRow) -> CatalogColumn {
    CatalogColumn {
        name: row.get("name"),
        sql_type: row.get("sql_type"),
        base_type: row.get("base_type"),
        builtin: row.get("builtin"),
        is_domain: row.get("is_domain"),
        is_enum: row.get("is_enum"),
        modifier: row.get("modifier"),
        nullable: row.get("nullable"),
        generated: row.get("generated"),
        null_share: row.get("null_share"),
        distinct: row.get("distinct"),
        unstable: row.get("unstable"),
        cast_to_text: row.get("cast_to_text"),
        cast_from_text: row.get("cast_from_text"),
    }
}

fn index(row: &PgRow) -> CatalogIndex {
    CatalogIndex {
        name: row.get("name"),
        columns: row.get("columns"),
        identifies: row.get("identifies"),
        unique: row.get("unique"),
        primary: row.get("primary"),
        partial: row.get("partial"),
        has_expressions: row.get("has_expressions"),
        method: row.get("method"),
    }
}

fn immovable(class: &PgRow) -> Option<String> {
    let is = |name: &str| class.get::<bool, _>(name);
    let (kind, persistence): (String, String) = (class.get("kind"), class.get("persistence"));
    let why = match kind.as_str() {
        "f" => "it is a foreign table: its rows are written where no trigger of this server sees it",
        "v" | "m" => "it is a view: declare the table under it",
        "r" | "p" if is("partition") => {
            "it is a partition: a row can leave it without a trigger of it firing"
        }
        "r" if is("inherits") => "it inherits from another table, whose statements change its rows",
        "r" if is("inherited") => {
            "other tables inherit from it: their rows are read through it, and no trigger of it captures them"
        }
        "r" if persistence == "u" => "it is UNLOGGED: a crash of the server empties it, and no trigger fires",
        "r" if persistence == "t" => "it is TEMPORARY: no other session sees its rows",
        "r" | "p" => return None,
        _ => "it is no table",
    };
    Some(why.to_owned())
}
