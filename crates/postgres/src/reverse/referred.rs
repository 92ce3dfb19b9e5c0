//! Rows that PostgreSQL would delete or change with another one.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};

use super::FedTable;
use super::surroundings::OURS;
use crate::lookup::{bind_keys, keys_sql};
use crate::path::{lend, take_back};
use crate::sql;

/// A foreign key that acts where a row that it refers to is deleted: its table, its columns, and those that
/// they refer to.
type Acting = (String, Vec<String>, Vec<String>);

/// Returns a table with rows that refer to the row of this key, by a foreign key with an action; `None` where
/// a deletion takes no other row along. Ends with our path.
pub(super) async fn referring(
    connection: &mut PgConnection,
    table: &FedTable,
    key: &[String],
) -> Result<Option<String>> {
    let doing = "looking for rows that refer to one";
    let binding = &table.binding;
    let acting: Vec<Acting> = sql::query_as(AssertSqlSafe(format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, r.relname),
             ARRAY(SELECT pg_catalog.format('%I', a.attname)
                   FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY AS u (number, place)
                   JOIN pg_catalog.pg_attribute a
                       ON a.attrelid = c.conrelid AND a.attnum = u.number ORDER BY u.place),
             ARRAY(SELECT pg_catalog.format('%I', a.attname)
                   FROM pg_catalog.unnest(c.confkey) WITH ORDINALITY AS u (number, place)
                   JOIN pg_catalog.pg_attribute a
                       ON a.attrelid = c.confrelid AND a.attnum = u.number ORDER BY u.place)
         FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
         WHERE c.contype = 'f' AND c.conparentid = 0 AND c.confdeltype IN ('c', 'n', 'd')
             AND c.confrelid IN (SELECT {OURS})",
    )))
    .bind(binding.relation.sql())
    .fetch_all(&mut *connection)
    .await
    .doing(doing)?;
    if acting.is_empty() {
        return Ok(None);
    }
    // Types of an extension are compared by its own operators, as the foreign key compares them.
    lend(connection).await?;
    let key = [key.to_vec()];
    let mut found = None;
    for (from, columns, to) in acting {
        let same = columns.iter().zip(&to).map(|(column, to)| format!("c.{column} = s.{to}"));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {rows} AS k JOIN {relation} AS s ON {same_row}
                 JOIN {from} AS c ON {same})",
            rows = keys_sql(binding, 1),
            relation = binding.relation.sql(),
            same_row = binding.row_of_key_sql("s", "k.key"),
            same = same.collect::<Vec<_>>().join(" AND "),
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
    take_back(connection).await?;
    Ok(found)
}
