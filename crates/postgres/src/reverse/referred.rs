//! Rows that PostgreSQL would delete or change with another one.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};

use super::FedTable;
use super::surroundings::{OURS, comparisons_sql};
use crate::lookup::{bind_keys, keys_sql};
use crate::sql;

/// A foreign key that acts where a row that it refers to is deleted: its table, and how its columns are
/// compared with those that they refer to.
type Acting = (String, Vec<String>);

/// Returns a table with rows that refer to the row of this key, by a foreign key with an action; `None` where
/// a deletion takes no other row along. Compared as the foreign key compares them.
pub(super) async fn referring(
    connection: &mut PgConnection,
    table: &FedTable,
    key: &[String],
) -> Result<Option<String>> {
    let doing = "looking for rows that refer to one";
    let binding = &table.binding;
    let acting: Vec<Acting> = sql::query_as(AssertSqlSafe(format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, r.relname),
             {}
         FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
         WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confdeltype IN ('c', 'n', 'd')
             AND c.confrelid IN (SELECT {OURS})",
        comparisons_sql("s", "c"),
    )))
    .bind(binding.relation.sql())
    .fetch_all(&mut *connection)
    .await
    .doing(doing)?;
    if acting.is_empty() {
        return Ok(None);
    }
    let key = [key.to_vec()];
    let mut found = None;
    for (from, same) in acting {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {rows} AS k JOIN {relation} AS s ON {same_row}
                 JOIN {from} AS c ON {same})",
            rows = keys_sql(binding, 1),
            relation = binding.relation.sql(),
            same_row = binding.row_of_key_sql("s", "k.key"),
            same = same.join(" AND "),
        );
        let mut arguments = PgArguments::default();
        bind_keys(&mut arguments, binding, key.iter().enumerate())?;
        let is_referred: bool = sql::query_scalar_with(AssertSqlSafe(sql), arguments)
            .fetch_one(&mut *connection)
            .await
            .doing(doing)?;
        if is_referred {
            found = Some(from);
            break;
        }
    }
    Ok(found)
}
