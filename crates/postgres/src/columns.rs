//! Columns of a table as the migration has taken them, and whether a build knows them.
//!
//! 1. A column is added, and taken by a build that knows it. 2. A relay of the build before begins its next
//! pass, or an application of it puts a row at once. 3. To them the table is the one that is recorded, and
//! each row would go without the column. So the columns are part of the contract, and of what is asked after
//! each reading.

use std::cmp::Reverse;

use lockstep_core::{Doing, Result};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;

use super::TableBinding;
use super::inspect::accepts;
use super::shape::{KEY, columns_of, key_line};
use crate::sql;

/// Ends the line of a column that takes no NULL.
const NOT_NULL: &str = " not null";
/// Types that print a number alike.
const WHOLE: [&str; 3] = ["smallint", "integer", "bigint"];

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnTaken {
    /// Name of it.
    pub name: String,
    /// Type of it, as a fingerprint has it.
    pub sql_type: String,
    /// Whether it takes no NULL.
    pub not_null: bool,
}

impl ColumnTaken {
    /// Returns its line in a fingerprint.
    pub fn line(&self) -> String {
        format!("{} {}{}", self.name, self.sql_type, if self.not_null { NOT_NULL } else { "" })
    }

    /// Says why a build does not know it; `None` where it does.
    fn unknown_to(&self, binding: &TableBinding) -> Option<String> {
        let Self { name, sql_type, not_null } = self;
        let Some(spec) = binding.table.columns().iter().find(|spec| spec.name == name) else {
            return (!binding.table.omits(name)).then(|| format!("column {name}"));
        };
        // A fingerprint leaves schema `public` out.
        if !accepts(binding, spec, sql_type) && !accepts(binding, spec, &format!("public.{sql_type}")) {
            return Some(format!("column {name} as {sql_type}"));
        }
        (!not_null && !spec.nullable).then(|| format!("column {name} with NULL"))
    }
}

/// Returns what a build does not know of these columns, a few words each.
pub fn unknown_columns(columns: &[ColumnTaken], binding: &TableBinding) -> Vec<String> {
    columns.iter().filter_map(|column| column.unknown_to(binding)).collect()
}

/// Returns the columns in a fingerprint, as far as a build tells their names from their types; none of a
/// table one of whose names holds the end of a line.
pub fn columns_in(fingerprint: &str, binding: &TableBinding) -> Vec<ColumnTaken> {
    let mut known: Vec<&str> = binding.table.columns().iter().map(|column| column.name).collect();
    if known.iter().any(|name| name.contains('\n')) {
        return Vec::new();
    }
    // The longest first: `a b text` is a column `a b`, where there is one.
    known.sort_unstable_by_key(|name| Reverse(name.len()));
    let lines = lines(columns_of(fingerprint));
    lines.into_iter().map(|line| in_line(line, &mut known, binding)).collect()
}

fn in_line<'a>(line: &'a str, known: &mut Vec<&'a str>, binding: &TableBinding) -> ColumnTaken {
    let is_of = |name: &&str| line.strip_prefix(*name).is_some_and(|rest| rest.starts_with(' '));
    let name = match known.iter().position(is_of) {
        Some(at) => known.remove(at),
        None => {
            let blanks = || line.match_indices(' ').map(|(at, _)| &line[..at]);
            blanks().find(|name| binding.table.omits(name)).or_else(|| blanks().next()).unwrap_or(line)
        }
    };
    let rest = line.get(name.len() + 1..).unwrap_or_default();
    let (sql_type, not_null) = match rest.strip_suffix(NOT_NULL) {
        Some(sql_type) => (sql_type, true),
        None => (rest, false),
    };
    ColumnTaken { name: name.to_owned(), sql_type: sql_type.to_owned(), not_null }
}

/// Returns the lines of columns, without that of the key.
fn lines(columns: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = columns.lines().collect();
    lines.pop_if(|line| line.starts_with(KEY));
    lines
}

/// Says which columns of a table's key went or are others, of the lines that went and those that came; items
/// would lie elsewhere. A whole number that has another width is the number that it was.
pub fn changes_of_key(binding: &TableBinding, gone: &[String], came: &[String]) -> Vec<String> {
    let of = |lines: &[String], name: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map(|rest| rest.strip_suffix(NOT_NULL).unwrap_or(rest).to_owned())
    };
    let is_whole = |sql_type: &str| WHOLE.contains(&sql_type);
    let changed = |name: &str| {
        let before = of(gone, name)?;
        match of(came, name) {
            Some(now) if is_whole(&before) && is_whole(&now) => None,
            Some(now) => Some(format!("{name} was {before} and is {now}")),
            None => Some(format!("{name} ({before}) went")),
        }
    };
    binding.table.key_columns().iter().filter_map(|column| changed(column.name)).collect()
}

/// Reads the columns of a relation, inside the transaction that has locked it.
pub(super) async fn columns_now(
    connection: &mut PgConnection,
    binding: &TableBinding,
) -> Result<Vec<ColumnTaken>> {
    let found: Vec<(String, String, bool)> = sql::query_as(
        r"SELECT attname::text,
             pg_catalog.regexp_replace(pg_catalog.format_type(atttypid, atttypmod), '^public\.', ''),
                 attnotnull
         FROM pg_attribute
         WHERE attrelid = pg_catalog.to_regclass($1)::oid AND attnum > 0 AND NOT attisdropped ORDER BY
             attnum",
    )
    .bind(binding.relation.sql())
    .fetch_all(connection)
    .await
    .doing("reading the columns of a table")?;
    let column = |(name, sql_type, not_null)| ColumnTaken { name, sql_type, not_null };
    Ok(found.into_iter().map(column).collect())
}

/// Tells whether these are the columns of a fingerprint.
pub(super) fn are_those_of(columns: &[ColumnTaken], fingerprint: &str) -> bool {
    let lines: Vec<String> = columns.iter().map(ColumnTaken::line).collect();
    let of = columns_of(fingerprint);
    let of = key_line(of).and_then(|key| of.strip_suffix(key)).unwrap_or(of);
    lines.join("\n") == of.trim_end_matches('\n')
}
