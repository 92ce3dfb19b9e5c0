//! Shape of a source table: its columns, its key, what hangs on it.

mod described;
mod several_texts;

use std::collections::BTreeMap;

use lockstep_core::{ColumnSpec, Doing, Naming, PK, RESERVED_ATTRIBUTES, Result, SK, Window};

use super::window::window_sql;
use crate::sql;
use sqlx::Row as _;
use sqlx::postgres::types::Oid;

use super::{Relation, Source, TableBinding};

/// A source table as it is now.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// The relation's oid.
    pub oid: u32,
    /// Name, type as `format_type()` prints it, and whether NULL is allowed, in the order of the table.
    pub columns: Vec<(String, String, bool)>,
    /// Type of each column under all domains, as `format_type()` prints it.
    pub base_types: BTreeMap<String, String>,
    /// Columns of a domain over an enum.
    pub of_enum_domains: Vec<String>,
    /// Labels of the columns that are enums, in their order.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Columns of the primary key, in its order.
    pub primary_key: Vec<String>,
    /// Whether the primary key is checked at the end of a transaction only.
    pub primary_key_deferrable: bool,
    /// Columns of the key whose collation takes different texts for one.
    pub key_folded: Vec<String>,
    /// Columns of the key whose type has an order of its own, outside of `pg_catalog`.
    pub key_of_own_order: Vec<String>,
    /// Rows, as the planner believes: by its statistics, and by how much the table has grown since. 0 where
    /// it was never analysed, as after a restore or an upgrade.
    pub rows_estimate: i64,
    /// Pages of the table that hold its rows, without what is stored apart from them.
    pub pages: i64,
    /// Bytes of the table, its indexes not counted.
    pub bytes: i64,
    /// One line a column and one for the key: what capture recorded, and what must not change under a
    /// migration.
    pub fingerprint: String,
    /// Objects that depend on the table.
    pub dependents: Vec<Dependent>,
}

const DEPENDS: &str = "listing what depends on a table";

/// Something in PostgreSQL that depends on a table and must be known before the table is left (R7).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dependent {
    /// `foreign key`, `view`, `trigger` or `publication`.
    pub kind: String,
    /// Name of the object, with the table it belongs to.
    pub name: String,
    /// Table of a foreign key that refers, or the one that it is a partition of.
    #[serde(skip)]
    pub by: Option<Relation>,
}

/// Tells whether a row type reads a type of the source. One of schema `public` is printed with its schema for
/// sessions with our own search path.
pub(super) fn accepts(binding: &TableBinding, spec: &ColumnSpec, sql_type: &str) -> bool {
    let accepts = |sql_type| binding.table.accepts(spec, sql_type);
    accepts(sql_type) || sql_type.strip_prefix("public.").is_some_and(accepts)
}

/// Tells whether the Rust type of a column reads a type, with its modifiers or without. 1. `sql = ".."` says
/// `jsonb` of a `String`. 2. The binary form of a document begins with its version, and is a text as well. 3.
/// Each item has one byte too many, and so has what it is compared with.
fn reads(spec: &ColumnSpec, base_type: &str) -> bool {
    let base_type = base_type.strip_prefix("public.").unwrap_or(base_type);
    let without_modifiers = match (base_type.find('('), base_type.find(')')) {
        (Some(from), Some(to)) => format!("{}{}", &base_type[..from], &base_type[to + 1..]),
        _ => base_type.to_owned(),
    };
    (spec.reads)(base_type) || (spec.reads)(&without_modifiers)
}

fn is_key(binding: &TableBinding, name: &str) -> bool {
    binding.table.key_columns().iter().any(|column| column.name == name)
}

/// Tells whether PostgreSQL pads a column's values with blanks, and the row type does not know.
fn is_padded_apart(spec: &ColumnSpec, sql_type: &str) -> bool {
    let is_padded =
        |sql_type: &str| sql_type.starts_with("character") && !sql_type.starts_with("character varying");
    is_padded(sql_type) && !is_padded(spec.sql_type)
}

/// Rows of a page, at least, of a table that was never analysed: PostgreSQL stores apart what makes a row
/// longer than a quarter of a page, so most have more.
const ROWS_OF_A_PAGE: i64 = 8;

impl SourceTable {
    /// About how many rows there are, for choosing how much of a table is sampled; too few rather than too
    /// many where it was never analysed. 1. A table was restored, and has no statistics. 2. Taken for empty,
    /// all of it is sampled and sorted, beside the pass over it that follows.
    pub fn rows_likely(&self) -> i64 {
        if self.rows_estimate > 0 { self.rows_estimate } else { self.pages.saturating_mul(ROWS_OF_A_PAGE) }
    }

    /// Names the labels that only one of the row type's enum and the source's has. A row with a label that
    /// Rust does not have could not be held, and one with a label that PostgreSQL does not have not come
    /// back.
    fn labels_apart(&self, spec: &ColumnSpec) -> Option<String> {
        let there = self.labels.get(spec.name).filter(|_| !spec.labels.is_empty())?;
        let only_there = there.iter().filter(|label| !spec.labels.contains(&label.as_str()));
        let only_here = spec.labels.iter().filter(|label| !there.iter().any(|other| other == **label));
        let (only_there, only_here): (Vec<_>, Vec<_>) = (only_there.collect(), only_here.collect());
        let mut apart = Vec::new();
        if !only_there.is_empty() {
            apart.push(format!("the enum in Rust lacks {only_there:?}: add a variant for each, and deploy"));
        }
        if !only_here.is_empty() {
            apart.push(format!(
                "the type in PostgreSQL lacks {only_here:?}: ALTER TYPE {} ADD VALUE, or take the variants \
                 out",
                spec.sql_type
            ));
        }
        (!apart.is_empty()).then(|| format!("column `{}`: {}", spec.name, apart.join("; ")))
    }

    /// Returns what keeps `binding` from reading this table, one sentence each.
    pub fn mismatches(&self, binding: &TableBinding) -> Vec<String> {
        let mut found = misnamed(binding);
        for spec in binding.table.columns() {
            if RESERVED_ATTRIBUTES.contains(&spec.attribute) {
                found.push(format!(
                    "column `{}` is called as an attribute that Lockstep keeps in each item: give its field \
                     another one, as by `attribute = \"{}_column\"`",
                    spec.name,
                    spec.name.trim_start_matches('_').to_lowercase()
                ));
            }
            match self.columns.iter().find(|(name, ..)| name == spec.name) {
                None => found.push(format!("column `{}` ({}) is missing", spec.name, spec.sql_type)),
                Some((name, sql_type, _)) if !accepts(binding, spec, sql_type) => {
                    found.push(format!(
                        "column `{name}` is {sql_type}, the row type expects {}",
                        spec.sql_type
                    ));
                }
                Some((name, sql_type, _)) if !reads(spec, self.base_types.get(name).unwrap_or(sql_type)) => {
                    found.push(format!(
                        "column `{name}` is {sql_type}, which the row type says and cannot read: give it a \
                         Rust type for that"
                    ));
                }
                // 1. A key column is `character(3)`, and the row type says text. 2. Compared as text,
                // `'US'` is not the key `'US '` that PostgreSQL prints. 3. No row is found by its own key:
                // a change is delivered as a deletion, and a comparison takes the row for gone.
                // A declared table prints such a column without blanks, in keys as well.
                Some((name, sql_type, _))
                    if binding.table.has_store()
                        && is_key(binding, name)
                        && is_padded_apart(spec, sql_type) =>
                {
                    found.push(format!(
                        "key column `{name}` is {sql_type}, and the row type reads it as text, by which no \
                         row is found that is shorter: give its type, `sql = \"{sql_type}\"`"
                    ));
                }
                Some((name, _, true)) if !spec.nullable => {
                    found.push(format!(
                        "column `{name}` allows NULL, the row type does not: add NOT NULL or use Option"
                    ));
                }
                Some(_) => {}
            }
            found.extend(self.labels_apart(spec));
        }
        for (name, sql_type, _) in &self.columns {
            let known = binding.table.columns().iter().any(|spec| spec.name == name);
            if !known && !binding.table.omits(name) {
                found.push(format!(
                    "column `{name}` ({sql_type}) is not in the row type and would be lost: add it"
                ));
            }
        }
        let expected: Vec<&str> = binding.primary_key().collect();
        if binding.table.is_keyed_by_primary_key() && self.primary_key != expected {
            let found_key =
                if self.primary_key.is_empty() { "none".to_owned() } else { self.primary_key.join(", ") };
            found.push(format!(
                "primary key is ({found_key}), the table crate expects ({})",
                expected.join(", ")
            ));
        }
        if binding.table.is_keyed_by_primary_key() && self.primary_key_deferrable {
            // Two transactions could then hold the same key at once, and versions would no longer grow in
            // commit order.
            found.push(
                "the primary key is DEFERRABLE: capture cannot order its changes; make it NOT DEFERRABLE"
                    .to_owned(),
            );
        }
        for name in &self.key_folded {
            // `Word` and `WORD` are one row here, and would be two items, each with versions of its own.
            found.push(format!(
                "the collation of key column `{name}` is not deterministic: PostgreSQL takes texts for one key that are two \
                 to DynamoDB; give the column a deterministic one"
            ));
        }
        for name in self.of_enum_domains.iter().filter(|name| is_key(binding, name)) {
            found.push(format!(
                "key column `{name}` is of a domain over an enum, for which PostgreSQL has no operators: make it \
                 the enum itself, or name other columns as the key"
            ));
        }
        for name in &self.key_of_own_order {
            // 1. A table is cut into ranges by `email < 'Banana'` of citext, whose operators are in schema
            //    public. 2.
            // Our sessions look there for none, and take those of text. 3. `ORDER BY` goes by the type, and
            // rows between the two orders are in no range: neither copied nor compared.
            found.push(format!(
                "key column `{name}` is of a type with an order of its own, as citext, which is not looked up where \
                 Lockstep reads; make it text, or name other columns as the key"
            ));
        }
        found
    }
}

impl Source {
    /// Describes the relation of `binding`.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`](lockstep_core::Kind::Misconfigured) when there is no such table.
    #[crate::boxed]
    pub async fn describe(&self, binding: &TableBinding) -> Result<SourceTable> {
        let what = format!("describing {}", binding.relation);
        let class = self.class(binding, &what).await?;
        let oid: Oid = class.get("oid");
        let columns = self.columns_there(oid, &what).await?;
        let key = self.key_there(oid, &what).await?;
        let odd = self.oddities(binding, oid, &what).await?;
        let those = |what: &str| odd.iter().filter(|row| row.get(what)).map(|row| row.get("name")).collect();
        Ok(SourceTable {
            oid: oid.0,
            columns: columns
                .iter()
                .map(|row| (row.get("name"), row.get("type"), row.get("nullable")))
                .collect(),
            base_types: columns.iter().map(|row| (row.get("name"), row.get("base_type"))).collect(),
            of_enum_domains: columns
                .iter()
                .filter(|row| row.get("is_of_enum"))
                .map(|row| row.get("name"))
                .collect(),
            labels: columns
                .iter()
                .filter_map(|row| Some((row.get("name"), row.get::<Option<Vec<String>>, _>("labels")?)))
                .collect(),
            primary_key: key.as_ref().map(|row| row.get("columns")).unwrap_or_default(),
            key_folded: those("folded"),
            key_of_own_order: those("own_order"),
            primary_key_deferrable: key.as_ref().is_some_and(|row| row.get("deferrable")),
            rows_estimate: class.get::<Option<_>, _>("rows").unwrap_or_default(),
            pages: class.get::<Option<_>, _>("pages").unwrap_or_default(),
            bytes: class.get::<Option<_>, _>("bytes").unwrap_or_default(),
            fingerprint: self.fingerprint(binding).await?,
            dependents: self.dependents(oid).await?,
        })
    }

    async fn dependents(&self, oid: Oid) -> Result<Vec<Dependent>> {
        let mut dependents = self.foreign_keys_to(oid.0).await?;
        let others: Vec<(String, String)> = sql::query_as(
            "SELECT DISTINCT 'view' AS kind, v.oid::regclass::text AS name FROM pg_depend d
               JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass::oid
               JOIN pg_class v ON v.oid = r.ev_class
               WHERE d.refobjid = $1 AND d.refclassid = 'pg_class'::regclass::oid AND v.oid <> $1
             UNION ALL
             SELECT 'trigger', tgname::text FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgname NOT LIKE 'zz\\_lockstep\\_%'
             UNION ALL
             SELECT 'publication', p.pubname::text || CASE WHEN p.puballtables THEN ' (FOR ALL TABLES:'
                 || ' it publishes the tables of schema lockstep too, and subscribers need them)' ELSE '' END
               FROM pg_publication p
               LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $1
               WHERE p.puballtables OR r.prrelid IS NOT NULL
             ORDER BY 1, 2",
        )
        .bind(oid)
        .fetch_all(self.pool())
        .await
        .doing(DEPENDS)?;
        dependents.extend(others.into_iter().map(|(kind, name)| Dependent { kind, name, by: None }));
        Ok(dependents)
    }

    /// Returns the foreign keys that refer to a relation or a partition of it. Those of partitions count for
    /// the table that they are parts of; PostgreSQL makes those with a parent itself.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn foreign_keys_to(&self, oid: u32) -> Result<Vec<Dependent>> {
        let found: Vec<(String, String, String)> = sql::query_as(
            "SELECT k.conrelid::regclass::text || '.' || k.conname, n.nspname::text, c.relname::text
             FROM pg_constraint k
             JOIN pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(k.conrelid)::oid, k.conrelid)
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE k.contype = 'f' AND k.conparentid = 0
                 AND (k.confrelid = $1 OR k.confrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))
             ORDER BY 1",
        )
        .bind(Oid(oid))
        .fetch_all(self.pool())
        .await
        .doing(DEPENDS)?;
        let one = |(name, schema, table): (String, String, String)| Dependent {
            kind: "foreign key".to_owned(),
            name,
            by: Some(Relation { schema, name: table }),
        };
        Ok(found.into_iter().map(one).collect())
    }

    /// Exact number of rows of each day in UTC, `yyyy-mm-dd`, of those in `window`; one number without a day
    /// where the table has no day column.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count_by_day(&self, binding: &TableBinding, window: &Window) -> Result<Vec<(String, i64)>> {
        let Some(column) = binding.table.day_column() else {
            return Ok(vec![(String::new(), self.count(binding, window).await?)]);
        };
        let sql = format!(
            "SELECT coalesce(pg_catalog.to_char(s.{} AT TIME ZONE 'UTC', 'YYYY-MM-DD'), ''),
                pg_catalog.count(*) FROM {} AS s{} GROUP BY 1 ORDER BY 1",
            super::quote_identifier(column),
            binding.relation.sql(),
            window_sql(window, binding, "WHERE")
        );
        sql::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(self.pool())
            .await
            .doing("counting source rows by day")
    }

    /// Exact number of rows, optionally only those in `window` of the table's day column.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count(&self, binding: &TableBinding, window: &Window) -> Result<i64> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} AS s{}",
            binding.relation.sql(),
            window_sql(window, binding, "WHERE")
        );
        sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(self.pool()).await.doing("counting source rows")
    }
}

/// Says which names of Lockstep's own attributes collide with each other, with a column or with an index.
fn misnamed(binding: &TableBinding) -> Vec<String> {
    let (names, target, columns) = (binding.table.names(), binding.table.target(), binding.table.columns());
    let of_columns: Vec<_> = columns.iter().map(|column| (column.name, column.attribute)).collect();
    let of_indexes = target.indexes.iter().flat_map(|index| Naming::USUAL.index_key(index));
    let of_indexes: Vec<_> =
        of_indexes.map(|attribute| attribute.name).filter(|name| ![PK, SK].contains(name)).collect();
    names.problems(target.sort.is_some(), &of_columns, &of_indexes)
}
