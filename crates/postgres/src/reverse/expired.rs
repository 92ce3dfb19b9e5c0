//! Rows past their expiry that make way.
//!
//! 1. Row A expires in DynamoOnly, and DynamoDB removes its item; PostgreSQL keeps the row, which is
//! retention. 2. An application inserts row B with a value of A's that is unique in PostgreSQL; that is
//! acknowledged. 3. PostgreSQL refuses B, and there is nothing that could change A: applications have no such
//! row. B could only be given up. So A goes, in the transaction that writes B.

use std::collections::HashSet;

use lockstep_core::{AnyRow, Doing, Error, Fields, Kind, Result, SourceKey, place};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::FedTable;
use super::operators::operator_sql;
use super::referred::referring;
use super::surroundings::OURS;
use super::texts::note_heirs;
use super::writer::Writer;
use crate::binding::{list, quote_identifier};
use crate::path::{lend, take_back};
use crate::sql;

const DOING: &str = "looking for expired rows that are in the way";

/// Knowledge of rows that have expired.
#[derive(Clone, Copy)]
pub(super) struct Expired<'a> {
    /// Places at which the target has no live item.
    pub(super) removed: &'a HashSet<String>,
    /// Now, in seconds since 1970, by the clock that is behind.
    pub(super) now_s: i64,
}

/// Outcome for the rows that are in the way of another.
#[derive(Default)]
pub(super) struct InTheWay {
    /// Number of those that are gone.
    pub(super) deleted: usize,
    /// Places of those that have expired and may still have an item.
    pub(super) unknown: Vec<String>,
}

/// Deletes the expired rows without an item that have a unique value of `row`.
pub(super) async fn give_way(
    connection: &mut PgConnection,
    writer: &Writer<'_>,
    row: &dyn AnyRow,
    expired: Expired<'_>,
) -> Result<InTheWay> {
    let mut found = InTheWay::default();
    let table = writer.table;
    if !table.binding.table.expires() {
        return Ok(found);
    }
    let own = row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?;
    let parts = table.binding.table.primary_key_columns();
    for index in indexes(connection, table).await? {
        for holder in index.holders(connection, table, row).await? {
            let is_expired = holder.expires_at_s.is_some_and(|at_s| at_s <= expired.now_s);
            if !is_expired || holder.key[..parts] == own[..parts] {
                continue;
            }
            if !expired.removed.contains(&holder.place) {
                found.unknown.push(holder.place);
                continue;
            }
            // 1. Live rows refer to the expired one ON DELETE CASCADE, or SET NULL. 2. It goes, and takes
            // them along. 3. Read again, they refer to nothing, and PostgreSQL refuses each of them for good.
            if referring(connection, table, &holder.key).await?.is_some() {
                continue;
            }
            found.deleted += writer.delete(connection, &[&holder.place], vec![holder.key]).await?.len();
            note_heirs(connection, table, &[&holder.place]).await?;
        }
    }
    Ok(found)
}

/// A row that has a value which only one may have.
struct Holder {
    key: Vec<String>,
    place: String,
    expires_at_s: Option<i64>,
}

/// An index of which no two rows may have the same, or that keeps rows apart by other operators.
#[derive(sqlx_macros::FromRow)]
struct Index {
    relation: String,
    predicate: Option<String>,
    expressions: Vec<String>,
    operators: Vec<String>,
    /// Cast of the second operand of each.
    casts: Vec<String>,
    nulls_are_same: bool,
}

/// Those of a table and of each partition, but for the primary key, which is the row's own. The session has
/// our path, so every name in them has its schema.
async fn indexes(connection: &mut PgConnection, table: &FedTable) -> Result<Vec<Index>> {
    let [operators, casts] = operator_sql(
        "coalesce(x.conexclop[n], (SELECT a.amopopr FROM pg_catalog.pg_amop a WHERE a.amopfamily = c.opcfamily
             AND a.amoplefttype = c.opcintype AND a.amoprighttype = c.opcintype AND a.amopstrategy = 3))",
    )
    .map(|text| {
        format!(
            "ARRAY(SELECT {text} FROM pg_catalog.generate_series(1, i.indnkeyatts::int) AS n
                   JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[n - 1] ORDER BY n)"
        )
    });
    sql::query_as(AssertSqlSafe(format!(
        "SELECT i.indrelid::pg_catalog.regclass::text AS relation,
                pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS predicate,
                coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
                    AS nulls_are_same,
                ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, false)
                      FROM pg_catalog.generate_series(1, i.indnkeyatts::int) AS n ORDER BY n) AS expressions,
                {operators} AS operators, {casts} AS casts
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
         LEFT JOIN pg_catalog.pg_constraint x ON x.conindid = i.indexrelid AND x.contype = 'x'
         WHERE i.indrelid IN (SELECT {OURS}) AND NOT i.indisprimary AND (i.indisunique OR i.indisexclusion)
             AND NOT r.relispartition ORDER BY i.indexrelid",
    )))
    .bind(table.binding.relation.sql())
    .fetch_all(connection)
    .await
    .doing(DOING)
}

impl Index {
    /// Asks in our own path first, and in the application's only where a function of the index has to find
    /// names there. 1. A unique index has `WHERE status = 'open'` of an enum. 2. A role makes `=` for that
    /// enum in the application's path. 3. The predicate, as PostgreSQL prints it, would call it.
    async fn asked(
        &self,
        connection: &mut PgConnection,
        sql: String,
        row: &dyn AnyRow,
    ) -> Result<Vec<PgRow>> {
        let arguments = || {
            let mut arguments = PgArguments::default();
            row.bind(&mut arguments);
            arguments
        };
        let mut savepoint = connection.begin().await.doing(DOING)?;
        let asked = sql::query_with(AssertSqlSafe(sql.clone()), arguments());
        match asked.fetch_all(&mut *savepoint).await.doing(DOING) {
            Ok(found) => {
                savepoint.commit().await.doing(DOING)?;
                return Ok(found);
            }
            Err(error) if error.sqlstate().is_some_and(|code| code.starts_with("42")) => {
                savepoint.rollback().await.doing(DOING)?;
            }
            Err(error) => return Err(error),
        }
        lend(connection).await?;
        let asked = sql::query_with(AssertSqlSafe(sql), arguments());
        let found = asked.fetch_all(&mut *connection).await.doing(DOING)?;
        take_back(connection).await?;
        Ok(found)
    }

    /// The rows that are in the way of `row`, held until the transaction ends; `row` may be among them.
    async fn holders(
        &self,
        connection: &mut PgConnection,
        table: &FedTable,
        row: &dyn AnyRow,
    ) -> Result<Vec<Holder>> {
        let binding = &table.binding;
        let columns = binding.table.columns().iter().enumerate();
        let values = list(columns.map(|(at, c)| {
            format!("({})::{} AS {}", binding.parameter_sql(at, at + 1), c.sql_type, quote_identifier(c.name))
        }));
        // In expressions of an index columns are named without their table: these are of `s` alone.
        let wanted = |n: usize| format!("w.{}", quote_identifier(&format!("lockstep wants {n}")));
        let names =
            list((0..self.expressions.len()).map(|n| quote_identifier(&format!("lockstep wants {n}"))));
        let same =
            self.expressions.iter().zip(&self.operators).enumerate().map(|(n, (expression, operator))| {
                let equal = format!("({expression}){operator}{}{}", wanted(n), self.casts[n]);
                match self.nulls_are_same {
                    true => format!("({equal} OR {expression} IS NULL AND {} IS NULL)", wanted(n)),
                    false => equal,
                }
            });
        let only = self.predicate.as_deref().unwrap_or("true");
        let sql = format!(
            "SELECT {key}::text, {columns} FROM {relation} AS s,
                 (SELECT {expressions} FROM (SELECT {values}) AS b WHERE {only}) AS w ({names})
             WHERE ({only}) AND {same} FOR UPDATE OF s",
            key = binding.key_sql("s"),
            columns = binding.columns_sql("s"),
            relation = self.relation,
            expressions = list(self.expressions.iter().cloned()),
            same = same.collect::<Vec<_>>().join(" AND "),
        );
        let found = self.asked(connection, sql, row).await?;
        let mut holders = Vec::with_capacity(found.len());
        for row in found {
            let key = SourceKey::parse(row.get::<&str, _>(0))
                .map_err(|error| Error::source(Kind::Invalid, DOING, error.to_string()))?;
            let expires_at_s = Fields::of_query(&row, 1, |fields| binding.table.expires_at(fields));
            // One that no item can be of is not for the target to remove.
            let (Ok(at), Ok(key)) = (binding.table.target_key(&key), binding.table.literals_of_key(&key))
            else {
                continue;
            };
            holders.push(Holder { key, place: place(&at.to_attributes()), expires_at_s });
        }
        Ok(holders)
    }
}
