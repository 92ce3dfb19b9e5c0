//! The SQL that changes rows for the feed.

use lockstep_core::{AnyRow, Doing, Error, Result};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, is_sayable, keys_sql};
use crate::sql;

/// Upserts rows, each with a primary key of its own.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    table: &FedTable,
    rows: &[&dyn AnyRow],
) -> Result<()> {
    let doing = format!("feeding rows to {}", table.binding.relation);
    for rows in rows.chunks(table.rows_max()) {
        let statements = std::iter::once(table.upsert_sql(rows.len())).chain(table.spell_sql(rows.len()));
        for sql in statements {
            let mut arguments = PgArguments::default();
            for row in rows {
                row.bind(&mut arguments);
            }
            // The text differs with the number of rows: only the one of many rows is used again.
            let is_kept = rows.len() == table.rows_max();
            let asked = sql::query_with(AssertSqlSafe(sql), arguments).persistent(is_kept);
            asked.execute(&mut *connection).await.doing(&doing)?;
        }
    }
    Ok(())
}

/// Deletes the rows that have exactly these source keys; returns which of them there were.
///
/// By the whole key: a row that has moved to another place does not answer to the key it had before. 1. A row
/// moves from A to B. 2. The new item at B comes first and the row becomes B's. 3. The tombstone at A must
/// not delete it.
pub(super) async fn delete(
    connection: &mut PgConnection,
    table: &FedTable,
    keys: &[Vec<String>],
) -> Result<Vec<usize>> {
    // A key that no row can have is of none.
    let keys: Vec<(usize, &Vec<String>)> =
        keys.iter().enumerate().filter(|(_, key)| is_sayable(key)).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut arguments = PgArguments::default();
    bind_keys(&mut arguments, &table.binding, keys.into_iter())?;
    delete_where(connection, table, &keys_sql(&table.binding, 1), arguments).await
}

/// Deletes the rows that have the primary keys of these, whatever source keys they have by now.
pub(super) async fn delete_rows(
    connection: &mut PgConnection,
    table: &FedTable,
    rows: &[&dyn AnyRow],
) -> Result<()> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        keys.push(row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?);
    }
    let sql = format!(
        "DELETE FROM {} AS s USING {} AS k WHERE {}",
        table.binding.relation.sql(),
        keys_sql(&table.binding, 1),
        table.binding.row_of_primary_key_sql("s", "k.key"),
    );
    let mut arguments = PgArguments::default();
    bind_keys(&mut arguments, &table.binding, keys.iter().enumerate())?;
    sql::query_with(AssertSqlSafe(sql), arguments)
        .execute(connection)
        .await
        .doing(&format!("making way for rows of {}", table.binding.relation))
        .map(drop)
}

/// As [`delete`] for one key, as PostgreSQL printed it.
pub(super) async fn delete_key(connection: &mut PgConnection, table: &FedTable, key: &str) -> Result<bool> {
    let mut arguments = PgArguments::default();
    arguments.add(key).map_err(|error| of_sqlx("binding a key", sqlx::Error::Encode(error)))?;
    let gone = delete_where(connection, table, "(SELECT 0 AS n, $1::text::jsonb AS key)", arguments).await?;
    Ok(!gone.is_empty())
}

async fn delete_where(
    connection: &mut PgConnection,
    table: &FedTable,
    keys: &str,
    arguments: PgArguments,
) -> Result<Vec<usize>> {
    let sql = format!(
        "DELETE FROM {} AS s USING {keys} AS k WHERE {} RETURNING k.n",
        table.binding.relation.sql(),
        table.binding.row_of_key_sql("s", "k.key"),
    );
    let gone: Vec<i32> = sql::query_scalar_with(AssertSqlSafe(sql), arguments)
        .fetch_all(connection)
        .await
        .doing(&format!("deleting rows of {} for the feed", table.binding.relation))?;
    Ok(gone.into_iter().map(|n| n as usize).collect())
}

/// Whether another row has what this one is to have, so that both may only have to change together.
pub(super) fn is_taken(error: &Error) -> bool {
    // 23505 a unique value, 23P01 what an exclusion constraint keeps apart.
    error.sqlstate().is_some_and(|code| code == "23505" || code == "23P01")
}

/// Returns what PostgreSQL said against a row, without its values (R36): messages hold none.
pub(super) fn reason(error: &Error) -> String {
    error.message.clone()
}

/// Whether PostgreSQL can never hold the row as it is, so that no other row that comes makes it fit: not 23,
/// which may be early.
pub(super) fn is_for_good(error: &Error) -> bool {
    error.sqlstate().is_some_and(|code| ["21", "22", "44", "54"].iter().any(|class| code.starts_with(class)))
}

/// Whether PostgreSQL refused the row itself, so that others may go on.
pub(super) fn is_about_the_row(error: &Error) -> bool {
    // 21 two rows where there is to be one, 22 data, 23 constraints, 44 a view's or policy's check, 54 a
    // limit of the server, as the width of an index; 38, 39 and P0 what a trigger of the application raises.
    const OF_THE_ROW: [&str; 8] = ["21", "22", "23", "38", "39", "44", "54", "P0"];
    error.sqlstate().is_some_and(|code| OF_THE_ROW.iter().any(|class| code.starts_with(class)))
}
