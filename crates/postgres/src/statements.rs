//! The statements that read and write single rows, built once a table.

use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnection;

use super::binding::{TableBinding, list, quote_identifier};
use crate::sql;

/// The operator by which a column of a key is found, in whichever path: see
/// [`TableBinding::row_of_key_sql`].
const EQUAL: &str = "OPERATOR(pg_catalog.=)";

/// Columns to which PostgreSQL gives a value by itself, and which a statement may not set as it sets others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Computed {
    /// `GENERATED ALWAYS AS (…)`: no statement sets them.
    generated: Vec<String>,
    /// `GENERATED ALWAYS AS IDENTITY`: only an insert sets them, and only where it overrides the system's
    /// value.
    identity: Vec<String>,
}

impl Computed {
    /// Reads them from the catalogue.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read(connection: &mut PgConnection, binding: &TableBinding) -> Result<Self> {
        let found: Vec<(String, bool)> = sql::query_as(
            "SELECT attname::text, attgenerated <> '' FROM pg_attribute
             WHERE attrelid = pg_catalog.to_regclass($1)::oid AND attnum > 0 AND NOT attisdropped
               AND (attgenerated <> '' OR attidentity = 'a') ORDER BY attnum",
        )
        .bind(binding.relation.sql())
        .fetch_all(connection)
        .await
        .doing("reading which columns PostgreSQL computes")?;
        let (generated, identity): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(_, generated)| *generated);
        let names = |of: Vec<(String, bool)>| of.into_iter().map(|(name, _)| name).collect();
        Ok(Self { generated: names(generated), identity: names(identity) })
    }

    fn is_generated(&self, name: &str) -> bool {
        self.generated.iter().any(|other| other == name)
    }

    /// Tells whether an update may set it.
    fn is_settable(&self, name: &str) -> bool {
        !self.is_generated(name) && !self.identity.iter().any(|other| other == name)
    }
}

/// Each returns the row's columns, then its source key as text; the upsert also the key that the row had
/// before, if any.
pub struct RowStatements {
    /// Inserts or updates by primary key.
    pub upsert: String,
    /// Without the primary key, which PostgreSQL gives.
    pub insert: String,
    /// Statement that reads a row by primary key.
    pub select: String,
    /// Statement that reads a row by every column of the source key.
    pub select_by_key: String,
    /// Statement that reads a row by primary key, and locks it.
    pub select_for_update: String,
    /// Statement that updates a row by primary key.
    pub update: String,
    /// Statement that deletes a row by primary key.
    pub delete: String,
    /// Place of the source key in what the statements return.
    pub key_at: usize,
    many: ManyRows,
}

/// Parts of an insert of several rows.
struct ManyRows {
    head: String,
    /// Indices, among a row's columns, of those that are given.
    indices: Vec<usize>,
    /// Number of columns that a row binds.
    width: usize,
    tail: String,
}

impl RowStatements {
    /// Builds them for a table. The columns that are read do not depend on `computed`.
    ///
    /// An upsert overrides the system's value: a key that is `GENERATED ALWAYS AS IDENTITY` is the caller's,
    /// as any other.
    pub fn new(binding: &TableBinding, computed: &Computed) -> Self {
        let relation = binding.relation.sql();
        let columns: Vec<&str> = binding.table.columns().iter().map(|column| column.name).collect();
        let key: Vec<&str> = binding.primary_key().collect();
        let given = || columns.iter().enumerate().filter(|(_, name)| !computed.is_generated(name));
        let names = list(given().map(|(_, name)| quote_identifier(name)));
        let parameters = list(given().map(|(index, _)| format!("${}", index + 1)));
        // Of an insert that leaves the key to PostgreSQL.
        let others = || {
            columns.iter().enumerate().filter(|(_, name)| !key.contains(*name) && computed.is_settable(name))
        };
        let returned = format!("{}, {}::text", binding.columns_sql("s"), binding.key_sql("s"));
        let assigned = |value: &dyn Fn(usize, &str) -> String| {
            let set = |(index, name): (usize, &&str)| {
                format!("{} = {}", quote_identifier(name), value(index, name))
            };
            // A table of nothing but its key: its row is the same as before.
            if others().next().is_none() {
                list(columns.iter().enumerate().take(1).map(set))
            } else {
                list(others().map(set))
            }
        };
        let of_key = |first: usize| {
            let parts = key
                .iter()
                .enumerate()
                .map(|(i, name)| format!("s.{} {EQUAL} ${}", quote_identifier(name), first + i));
            parts.collect::<Vec<_>>().join(" AND ")
        };
        // A sub-select in RETURNING sees the row as it was before the statement.
        let old_key = binding.key_sql("o");
        let same_row = key
            .iter()
            .map(|name| format!("o.{0} {EQUAL} s.{0}", quote_identifier(name)))
            .collect::<Vec<_>>()
            .join(" AND ");
        let excluded = assigned(&|_, name| format!("excluded.{}", quote_identifier(name)));
        let whole_key = binding
            .table
            .key_columns()
            .iter()
            .enumerate()
            .map(|(i, c)| format!("s.{} {EQUAL} ${}", quote_identifier(c.name), i + 1));
        let whole_key = whole_key.collect::<Vec<_>>().join(" AND ");
        let select = format!("SELECT {returned} FROM {relation} AS s WHERE {}", of_key(1));
        Self {
            upsert: format!(
                "INSERT INTO {relation} AS s ({names}) OVERRIDING SYSTEM VALUE VALUES ({parameters})
                 ON CONFLICT ({}) DO UPDATE SET {excluded}
                 RETURNING {returned}, (SELECT {old_key}::text FROM {relation} AS o WHERE {same_row})",
                list(key.iter().map(|name| quote_identifier(name)))
            ),
            // Every column is bound; the parameters of the key are left unused.
            insert: format!(
                "INSERT INTO {relation} AS s ({}) VALUES ({}) RETURNING {returned}",
                list(others().map(|(_, name)| quote_identifier(name))),
                list(others().map(|(index, _)| format!("${}", index + 1))),
            ),
            select_by_key: format!("SELECT {returned} FROM {relation} AS s WHERE {whole_key}"),
            select_for_update: format!("{select} FOR UPDATE"),
            select,
            update: format!(
                "UPDATE {relation} AS s SET {} WHERE {} RETURNING {returned}",
                assigned(&|index, _| format!("${}", index + 1)),
                key_parameters(&columns, &key),
            ),
            delete: format!("DELETE FROM {relation} AS s WHERE {} RETURNING {returned}", of_key(1)),
            key_at: columns.len(),
            many: ManyRows {
                head: format!(
                    "INSERT INTO {relation} AS s ({}) VALUES ",
                    list(others().map(|(_, name)| quote_identifier(name)))
                ),
                indices: others().map(|(index, _)| index + 1).collect(),
                width: columns.len(),
                tail: format!(" RETURNING {returned}"),
            },
        }
    }

    /// Writes `insert` for this many rows, each of which binds all its columns after those of the row before.
    pub fn insert_many(&self, rows: usize) -> String {
        let ManyRows { head, indices, width, tail } = &self.many;
        let of_row = |nth: usize| indices.iter().map(move |index| format!("${}", nth * width + index));
        let values = list((0..rows).map(|nth| format!("({})", list(of_row(nth)))));
        format!("{head}{values}{tail}")
    }
}

/// Returns the key columns compared with their own parameters among all columns.
fn key_parameters(columns: &[&str], key: &[&str]) -> String {
    let number = |name: &str| columns.iter().position(|column| *column == name).map_or(0, |index| index + 1);
    key.iter()
        .map(|name| format!("s.{} {EQUAL} ${}", quote_identifier(name), number(name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}
