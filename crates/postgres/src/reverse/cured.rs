//! Dead letters of rows that DynamoOnly has written since.
//!
//! 1. Payment 5 of customer 3 is one that no item can hold. It is a dead letter, an operator accepts that,
//! and the truth moves. 2. In DynamoOnly, where there is no such row, payment 5 is put, of customer 7. 3. The
//! feed writes it over the row of before, and the dead letter is about a state that no store has: it was
//! listed for good, a repair would not bring the row back, and a reverse backfill would not let it go. 4. Or
//! payment 5 is deleted before the feed comes: the key that is deleted is that of customer 7, so the row of
//! before stayed, and was there again after the way back. So what comes of a row ends its dead letter,
//! whatever its key was.

use lockstep_core::{AnyRow, Doing, Error, Result};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::FedTable;
use crate::fault::of_sqlx;
use crate::lookup::{bind_keys, is_sayable, keys_sql};
use crate::sql;

/// Takes out the dead letters of rows that are as their items say.
pub(super) async fn end_of_rows(
    connection: &mut PgConnection,
    table: &FedTable,
    rows: &[&dyn AnyRow],
) -> Result<()> {
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        keys.push(row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?);
    }
    end_of_keys(connection, table, &keys).await.map(drop)
}

/// Takes out the dead letters of the rows of these source keys, given as SQL literals; returns the keys that
/// they were about.
pub(super) async fn end_of_keys(
    connection: &mut PgConnection,
    table: &FedTable,
    keys: &[Vec<String>],
) -> Result<Vec<String>> {
    let sayable = keys.iter().enumerate().filter(|(_, key)| is_sayable(key));
    let mut arguments = of_table(table)?;
    bind_keys(&mut arguments, &table.binding, sayable)?;
    end(connection, table, &keys_sql(&table.binding, 2), arguments).await
}

/// The same of one key as PostgreSQL printed it.
pub(super) async fn end_of_key(
    connection: &mut PgConnection,
    table: &FedTable,
    key: &str,
) -> Result<Vec<String>> {
    let mut arguments = of_table(table)?;
    arguments.add(key).map_err(|error| of_sqlx(DOING, sqlx::Error::Encode(error)))?;
    end(connection, table, "(SELECT $2::text::jsonb AS key)", arguments).await
}

const DOING: &str = "taking out dead letters of rows that came back";

fn of_table(table: &FedTable) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    arguments.add(table.binding.name()).map_err(|error| of_sqlx(DOING, sqlx::Error::Encode(error)))?;
    Ok(arguments)
}

/// Takes out dead letters by the texts of the primary key's columns: a mark that was set aside because it
/// does not read as a key is no value of their types.
async fn end(
    connection: &mut PgConnection,
    table: &FedTable,
    keys: &str,
    arguments: PgArguments,
) -> Result<Vec<String>> {
    let parts = (0..table.binding.table.primary_key_columns())
        .map(|at| format!("(x.key ->> {at}) OPERATOR(pg_catalog.=) (k.key ->> {at})"));
    let sql = format!(
        "DELETE FROM lockstep.dead_letters x USING {keys} AS k WHERE x.table_name = $1 AND {}
         RETURNING x.key::text",
        parts.collect::<Vec<_>>().join(" AND "),
    );
    sql::query_scalar_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await.doing(DOING)
}
