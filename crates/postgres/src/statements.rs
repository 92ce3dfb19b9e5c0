//! The statements that read and write single rows, built once a table.

use super::binding::{TableBinding, list, quote_identifier};

/// Each returns the row's columns, then its source key as text; the upsert also the key that the row had before, if any.
pub struct RowStatements {
    /// Inserts or updates by primary key.
    pub upsert: String,
    /// Without the primary key, which PostgreSQL gives.
    pub insert: String,
    /// By primary key.
    pub select: String,
    /// By every column of the source key.
    pub select_by_key: String,
    /// By primary key, and locks the row.
    pub select_for_update: String,
    /// By primary key.
    pub update: String,
    /// By primary key.
    pub delete: String,
    /// Place of the source key in what the statements return.
    pub key_at: usize,
}

impl RowStatements {
    /// Builds them for a table.
    pub fn new(binding: &TableBinding) -> Self {
        let relation = binding.relation.sql();
        let columns: Vec<&str> = binding.table.columns().iter().map(|column| column.name).collect();
        let key: Vec<&str> = binding.primary_key().collect();
        let names = list(columns.iter().map(|name| quote_identifier(name)));
        let places = list((1..=columns.len()).map(|place| format!("${place}")));
        let returned = format!("{}, {}::text", binding.columns_sql("s"), binding.key_sql("s"));
        let assigned = |value: &dyn Fn(usize, &str) -> String| {
            let others = columns.iter().enumerate().filter(|(_, name)| !key.contains(name));
            list(others.map(|(place, name)| format!("{} = {}", quote_identifier(name), value(place, name))))
        };
        let of_key = |first: usize| {
            let parts = key.iter().enumerate().map(|(i, name)| format!("s.{} = ${}", quote_identifier(name), first + i));
            parts.collect::<Vec<_>>().join(" AND ")
        };
        // A sub-select in RETURNING sees the row as it was before the statement.
        let old_key = binding.key_sql("o");
        let same_row = key.iter().map(|name| format!("o.{0} = s.{0}", quote_identifier(name))).collect::<Vec<_>>().join(" AND ");
        let excluded = assigned(&|_, name| format!("excluded.{}", quote_identifier(name)));
        let whole_key =
            binding.table.key_columns().iter().enumerate().map(|(i, c)| format!("s.{} = ${}", quote_identifier(c.name), i + 1));
        let whole_key = whole_key.collect::<Vec<_>>().join(" AND ");
        let select = format!("SELECT {returned} FROM {relation} AS s WHERE {}", of_key(1));
        Self {
            upsert: format!(
                "INSERT INTO {relation} AS s ({names}) VALUES ({places})
                 ON CONFLICT ({}) DO UPDATE SET {excluded}
                 RETURNING {returned}, (SELECT {old_key}::text FROM {relation} AS o WHERE {same_row})",
                list(key.iter().map(|name| quote_identifier(name)))
            ),
            // Every column is bound; the places of the key are left unused.
            insert: format!(
                "INSERT INTO {relation} AS s ({}) VALUES ({}) RETURNING {returned}",
                list(columns.iter().filter(|name| !key.contains(*name)).map(|name| quote_identifier(name))),
                list(columns.iter().enumerate().filter(|(_, name)| !key.contains(*name)).map(|(i, _)| format!("${}", i + 1))),
            ),
            select_by_key: format!("SELECT {returned} FROM {relation} AS s WHERE {whole_key}"),
            select_for_update: format!("{select} FOR UPDATE"),
            select,
            update: format!(
                "UPDATE {relation} AS s SET {} WHERE {} RETURNING {returned}",
                assigned(&|place, _| format!("${}", place + 1)),
                key_places(&columns, &key),
            ),
            delete: format!("DELETE FROM {relation} AS s WHERE {} RETURNING {returned}", of_key(1)),
            key_at: columns.len(),
        }
    }
}

/// The key columns compared with their own places among all columns.
fn key_places(columns: &[&str], key: &[&str]) -> String {
    let place = |name: &str| columns.iter().position(|column| *column == name).map_or(0, |place| place + 1);
    key.iter().map(|name| format!("s.{} = ${}", quote_identifier(name), place(name))).collect::<Vec<_>>().join(" AND ")
}
