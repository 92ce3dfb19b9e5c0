//! Rows and marks that a transaction left under the keys that it changed, read together (I14).

use lockstep_core::{Doing, Fields, Result, Version};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::binding::{TableBinding, digest_sql, quote_identifier};
use super::intents::Mark;
use crate::sql;

/// State that this transaction left under a key: the row that has it, and the mark, read together (I14).
pub struct Left {
    /// The mark.
    pub mark: Mark,
    row: PgRow,
    /// Place of the table's first column; `None` where no row has this key.
    row_at: Option<usize>,
}

/// Columns before those of the tables in the statement that reads them.
const TABLES_AT: usize = 3;
/// PostgreSQL returns 1,664 columns at most. More tables than fit are asked for apart.
const COLUMNS_MAX: usize = 1_600;

/// The keys of one table, each with its number among all that are asked for.
pub type KeysOfTable<'a> = (&'a TableBinding, Vec<(usize, &'a str)>);

impl Left {
    /// Runs `read` over the row's fields; `None` where no row has this key.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        self.row_at.map(|row_at| Fields::of_query(&self.row, row_at, read))
    }
}

/// Reads what this transaction left under those of the keys of `tables` that it marked, in the order of their
/// numbers; all tables in one round trip. To be read after its last statement, never after the first, and
/// never from what a statement returned:
/// 1. `RETURNING` shows a row as it was written.
/// 2. A trigger, a cascade or a later statement changes it, or takes it away, and marks its key under a newer
///    version.
/// 3. The returned row would leave under that version and be acknowledged.
///
/// The rows are locked by this transaction, so no other one changes them meanwhile.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn left_under(transaction: &mut PgConnection, tables: &[KeysOfTable<'_>]) -> Result<Vec<Left>> {
    let mut left = Vec::new();
    let mut rest = tables;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest.iter().map(|(binding, _)| width(binding))));
        left.extend(left_in(transaction, now).await?);
        rest = later;
    }
    left.sort_by_key(|left| left.mark.of);
    Ok(left)
}

/// Returns how many tables of these widths fit into one statement: one at least.
fn fitting(widths: impl Iterator<Item = usize>) -> usize {
    let so_far = widths.scan(TABLES_AT, |columns, width| {
        *columns += width;
        Some(*columns)
    });
    so_far.take_while(|columns| *columns <= COLUMNS_MAX).count().max(1)
}

/// Counts the columns of the table, after one that says whether there is a row.
fn width(binding: &TableBinding) -> usize {
    1 + binding.table.columns().len()
}

async fn left_in(transaction: &mut PgConnection, tables: &[KeysOfTable<'_>]) -> Result<Vec<Left>> {
    let names: Vec<&str> = tables.iter().map(|(binding, _)| binding.name()).collect();
    let (mut places, mut of_tables, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (table, (_, of_table)) in tables.iter().enumerate() {
        for (place, key) in of_table {
            places.push(*place as i64);
            of_tables.push(table as i32);
            keys.push(*key);
        }
    }
    let bindings: Vec<&TableBinding> = tables.iter().map(|(binding, _)| *binding).collect();
    let doing = "reading rows and versions of this transaction";
    let found = sql::query(AssertSqlSafe(sql(&bindings)))
        .bind(&places)
        .bind(&of_tables)
        .bind(&keys)
        .bind(&names)
        .fetch_all(transaction)
        .await
        .doing(doing)?;
    let starts: Vec<usize> = bindings
        .iter()
        .scan(TABLES_AT, |next, binding| {
            let start = *next;
            *next += width(binding);
            Some(start)
        })
        .collect();
    let left = |row: PgRow| {
        let (of, table, version): (i64, i32, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let start = starts.get(table as usize).copied().ok_or(sqlx::Error::RowNotFound)?;
        let exists: bool = row.try_get(start)?;
        let mark = Mark { of: of as usize, version: Version(version), repair: None };
        Ok::<_, sqlx::Error>(Left { mark, row, row_at: exists.then_some(start + 1) })
    };
    found.into_iter().map(left).collect::<Result<_, _>>().doing(doing)
}

/// Writes one join a table. A key is of one table, and is no key for the others: it may not even have their
/// types, so they are given none.
fn sql(tables: &[&TableBinding]) -> String {
    let (mut columns, mut joins) = (String::new(), String::new());
    for (n, binding) in tables.iter().enumerate() {
        let row = format!("s{n}");
        let key = match tables {
            [_] => "p.key".to_owned(),
            _ => format!("(CASE WHEN d.t = {n} THEN p.key END)"),
        };
        let first_key = quote_identifier(binding.table.key_columns()[0].name);
        columns += &format!(", {row}.{first_key} IS NOT NULL, {}", binding.columns_sql(&row));
        joins += &format!(
            "\n         LEFT JOIN {} AS {row} ON {}",
            binding.relation.sql(),
            binding.row_of_key_sql(&row, &key)
        );
    }
    format!(
        "SELECT d.n, d.t, p.version{columns}
         FROM unnest($1::bigint[], $2::int[], $3::text[]) AS d (n, t, key)
         JOIN lockstep.pending p ON p.table_name = ($4::text[])[d.t + 1] AND {stored} = {asked}{joins}",
        stored = digest_sql("p.key"),
        asked = digest_sql("d.key::jsonb"),
    )
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn as_many_tables_are_asked_for_at_once_as_postgresql_returns_columns() {
        assert_eq!(fitting([20, 30].into_iter()), 2);
        assert_eq!(fitting([1_590, 30].into_iter()), 1);
        assert_eq!(fitting([1_000, 597, 1].into_iter()), 2);
        assert_eq!(fitting([1_601].into_iter()), 1, "one at least");
    }
}
