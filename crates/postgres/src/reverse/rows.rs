//! The SQL that changes rows for the feed.

use lockstep_core::{AnyRow, Doing, Error, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};

use super::FedTable;
use crate::binding::list;
use crate::lookup::{key_literal_sql, keys_sql};

/// Upserts rows, each with a primary key of its own.
pub(super) async fn upsert(connection: &mut PgConnection, table: &FedTable, rows: &[&dyn AnyRow]) -> Result<()> {
    let doing = format!("feeding rows to {}", table.binding.relation);
    for rows in rows.chunks(table.rows_max()) {
        let mut arguments = PgArguments::default();
        for row in rows {
            row.bind(&mut arguments);
        }
        let sql = AssertSqlSafe(table.upsert_sql(rows.len()));
        // The text differs with the number of rows: a cached plan would seldom be used again.
        sqlx::query_with(sql, arguments).persistent(false).execute(&mut *connection).await.doing(&doing)?;
    }
    Ok(())
}

/// Deletes the rows that have exactly these source keys; returns which of them there were.
///
/// By the whole key: a row that has moved to another place does not answer to the key it had before. 1. A row moves from A to
/// B. 2. The new item at B comes first and the row becomes B's. 3. The tombstone at A must not delete it.
pub(super) async fn delete(connection: &mut PgConnection, table: &FedTable, keys: &[Vec<String>]) -> Result<Vec<usize>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    delete_where(connection, table, &keys_sql(&table.binding, keys)).await
}

/// The same for one key, as PostgreSQL printed it.
pub(super) async fn delete_key(connection: &mut PgConnection, table: &FedTable, key: &str) -> Result<bool> {
    let key = crate::binding::quote_literal(key);
    Ok(!delete_where(connection, table, &format!("(0, {key}::jsonb)")).await?.is_empty())
}

async fn delete_where(connection: &mut PgConnection, table: &FedTable, values: &str) -> Result<Vec<usize>> {
    let sql = format!(
        "DELETE FROM {} AS s USING (VALUES {values}) AS k (n, key) WHERE {} RETURNING k.n",
        table.binding.relation.sql(),
        table.binding.row_of_key_sql("s", "k.key"),
    );
    let gone: Vec<i32> = sqlx::query_scalar(AssertSqlSafe(sql))
        .persistent(false)
        .fetch_all(connection)
        .await
        .doing(&format!("deleting rows of {} for the feed", table.binding.relation))?;
    Ok(gone.into_iter().map(|n| n as usize).collect())
}

/// What PostgreSQL said against a row, without its values (R36): messages about values are left out.
pub(super) fn reason(error: &Error) -> String {
    match error.sqlstate() {
        // Class 23: the message names the constraint; the values are in the detail, which we do not take.
        Some(code) if code.starts_with("23") => error.message.clone(),
        Some(code) => format!("PostgreSQL refused the row (SQLSTATE {code})"),
        None => error.message.clone(),
    }
}

/// Whether PostgreSQL refused the row itself, so that others may go on.
pub(super) fn is_about_the_row(error: &Error) -> bool {
    // 22 data, 23 constraints, P0 what a trigger of the application raises.
    error.sqlstate().is_some_and(|code| ["22", "23", "P0"].iter().any(|class| code.starts_with(class)))
}

/// The `VALUES` of source keys with a number each.
pub(super) fn numbered_keys<'a>(table: &FedTable, keys: impl Iterator<Item = (usize, &'a Vec<String>)>) -> String {
    list(keys.map(|(n, key)| format!("({n}, {})", key_literal_sql(&table.binding, key))))
}
