//! The sequences behind identity keys.

use lockstep_core::{Doing, Error, Kind, Result, ids_end};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::binding::quote_literal;
use super::{Source, TableBinding, quote_identifier};
use crate::sql;

/// The sequence that gives column `asked.key` of `asked.relation` its values: its own, or the one that its
/// default calls.
const SEQUENCE_OF_ASKED: &str = "coalesce(
    pg_catalog.pg_get_serial_sequence(asked.relation, asked.key), (
    SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.relname)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    JOIN pg_catalog.pg_depend p ON p.objid = d.oid
        AND p.classid = 'pg_catalog.pg_attrdef'::regclass::oid
    JOIN pg_catalog.pg_class s ON s.oid = p.refobjid
        AND p.refclassid = 'pg_catalog.pg_class'::regclass::oid
        AND s.relkind = 'S'
    JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
    WHERE a.attrelid = pg_catalog.to_regclass(asked.relation)::oid AND a.attname = asked.key
    ORDER BY s.oid LIMIT 1))";

/// Returns the sequence that gives a table its primary key, as SQL names it; `None` where no sequence does.
/// It is the column's own, or the one that its default calls: those of Hibernate, and those that were made by
/// hand, belong to no column.
#[crate::boxed]
pub async fn identity_of(connection: &mut PgConnection, binding: &TableBinding) -> Result<Option<String>> {
    Ok(identities_of(connection, std::slice::from_ref(binding)).await?.pop().flatten())
}

/// Returns the same of several tables, in their order, by one statement.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn identities_of(
    connection: &mut PgConnection,
    tables: &[TableBinding],
) -> Result<Vec<Option<String>>> {
    let column = |binding: &TableBinding| {
        let mut columns = binding.primary_key();
        columns.next().filter(|_| columns.next().is_none())
    };
    let sql = format!(
        "SELECT CASE WHEN asked.key IS NOT NULL THEN {SEQUENCE_OF_ASKED} END
         FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
             WITH ORDINALITY AS asked (relation, key, nth) ORDER BY asked.nth"
    );
    sql::query_scalar(AssertSqlSafe(sql))
        .bind(tables.iter().map(|binding| binding.relation.sql()).collect::<Vec<_>>())
        .bind(tables.iter().map(column).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .doing("looking for the sequences of keys")
}

/// A column whose values come from a sequence where a statement gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedColumn {
    /// Name of the column.
    pub column: &'static str,
    /// The sequence, as SQL names it.
    pub sequence: String,
    /// Step of the sequence: below 0 where it counts down.
    pub increment: i64,
    /// Whether this role may read and set the sequence.
    pub may_set: bool,
}

impl NumberedColumn {
    /// Returns how a role is given the right to read and set the sequence.
    pub fn right(&self) -> String {
        format!("GRANT SELECT, UPDATE ON SEQUENCE {} to the role of Lockstep", self.sequence)
    }
}

/// Returns the columns of a table that a sequence numbers, whether they are in its key or not.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn numbered_columns(
    connection: &mut PgConnection,
    binding: &TableBinding,
) -> Result<Vec<NumberedColumn>> {
    let sql = format!(
        "SELECT found.nth, found.sequence, m.seqincrement,
             pg_catalog.has_sequence_privilege(m.seqrelid, 'UPDATE')
                 AND pg_catalog.has_sequence_privilege(m.seqrelid, 'SELECT')
         FROM (SELECT asked.nth - 1 AS nth, {SEQUENCE_OF_ASKED} AS sequence
               FROM (SELECT $1::text AS relation, c.key, c.nth
                     FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS c (key, nth)) AS asked) AS found
         JOIN pg_catalog.pg_sequence m ON m.seqrelid = pg_catalog.to_regclass(found.sequence)::oid
         ORDER BY found.nth"
    );
    let columns = binding.table.columns();
    let found: Vec<(i64, String, i64, bool)> = sql::query_as(AssertSqlSafe(sql))
        .bind(binding.relation.sql())
        .bind(columns.iter().map(|column| column.name).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .doing("looking for columns that a sequence numbers")?;
    let numbered = found.into_iter().map(|(nth, sequence, increment, may_set)| {
        let column = columns[nth as usize].name;
        NumberedColumn { column, sequence, increment, may_set }
    });
    Ok(numbered.collect())
}

/// Makes sure that these sequences, each of which counts upwards, hand out nothing up to the number that goes
/// with each, by one statement. A number above all that a sequence can give is passed over.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub(crate) async fn raise_above(connection: &mut PgConnection, numbers: &[(&str, i64)]) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let raise = |(sequence, number): &(&str, i64)| {
        let name = quote_literal(sequence);
        format!(
            "SELECT pg_catalog.setval({name}::regclass, {number}) FROM {sequence} AS s
             JOIN pg_catalog.pg_sequence AS m ON m.seqrelid = {name}::regclass::oid
             WHERE {number} BETWEEN m.seqmin AND m.seqmax AND m.seqincrement > 0 AND {HANDED_OUT} < {number}"
        )
    };
    let sql = numbers.iter().map(raise).collect::<Vec<_>>().join(" UNION ALL ");
    let raised = sql::query(AssertSqlSafe(sql)).persistent(false).execute(connection);
    raised.await.doing("raising sequences").map(drop)
}

/// The last number that sequence `s` has handed out. 1. A sequence is new: its value is 1, and it was never
/// called. 2. A row has number 1. 3. By its value alone it seems to stand there, and hands out 1 once more.
const HANDED_OUT: &str = "(CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END)";

/// Returns by how much a sequence goes on: 1 as a rule, more where a program takes a block of ids with each
/// call, and below 0 where it counts down.
#[crate::boxed]
pub async fn increment_of(connection: &mut PgConnection, sequence: &str) -> Result<i64> {
    sql::query_scalar("SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = $1::regclass::oid")
        .bind(sequence)
        .fetch_one(connection)
        .await
        .doing("looking at the sequence of a key")
}

/// Returns the highest ids that were handed out or are in use, of tables with their sequences, in their
/// order, by one statement; 0 where there is none. Ids that no row is given do not count (see
/// [`ids_end`]). Of a sequence that goes on by more than one, a program may have taken the whole block
/// that begins with its value.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn highest_ids(
    connection: &mut PgConnection,
    numbered: &[(&TableBinding, String)],
) -> Result<Vec<i64>> {
    let highest = |(binding, sequence): &(&TableBinding, String)| {
        format!(
            "(SELECT pg_catalog.jsonb_build_array(CASE WHEN is_called THEN last_value ELSE last_value - 1 END,
                  (SELECT seqincrement FROM pg_catalog.pg_sequence
                   WHERE seqrelid = pg_catalog.to_regclass({})::oid),
                  ({in_use})) FROM {sequence})",
            quote_literal(sequence),
            in_use = in_use(binding),
        )
    };
    let sql =
        format!("SELECT ARRAY[{}]::text[]", numbered.iter().map(highest).collect::<Vec<_>>().join(", "));
    let doing = "looking for the highest ids";
    let found: Vec<String> =
        sql::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await.doing(doing)?;
    let highest = |text: String| {
        let (handed_out, increment, in_use): (i64, i64, i64) = serde_json::from_str(&text)
            .map_err(|error| Error::source(Kind::Invalid, doing, error.to_string()))?;
        Ok(handed_out.saturating_add(increment.max(1) - 1).max(in_use))
    };
    found.into_iter().map(highest).collect()
}

/// Query for the highest id in use, of those that rows are given; 0 where there is none.
fn in_use(binding: &TableBinding) -> String {
    let column = quote_identifier(binding.primary_key().next().unwrap_or_default());
    let end = binding.table.key_columns().first().and_then(|column| ids_end(column.sql_type));
    // A condition that the index of the key answers.
    let below = end.map_or_else(String::new, |end| format!(" WHERE {column} < {end}"));
    format!("SELECT greatest(pg_catalog.max({column})::bigint, 0) FROM {}{below}", binding.relation.sql())
}

/// Returns the highest id in use, of those that rows are given (see [`ids_end`]); 0 where there is none.
#[crate::boxed]
pub async fn highest_id_in_use(connection: &mut PgConnection, binding: &TableBinding) -> Result<i64> {
    let doing = format!("looking for the highest id of {}", binding.name());
    sql::query_scalar(AssertSqlSafe(in_use(binding))).fetch_one(connection).await.doing(&doing)
}

/// Makes sure that these sequences, each with its table, hand out nothing up to the number that goes with
/// each, by one statement. Like every sequence they know no rollback: a gap may stay.
///
/// 1. A program has put a number into a counter of DynamoDB that no id of the table can have. 2. The truth is
/// decided to go back. 3. The sequence refuses the number, each time: no application can write. No row has an
/// id above what its sequence gives, so what is in use says enough then.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn raise_sequences(
    connection: &mut PgConnection,
    highest: &[(&TableBinding, String, i64)],
) -> Result<()> {
    let raise = |(binding, sequence, highest): &(&TableBinding, String, i64)| {
        let name = quote_literal(sequence);
        format!(
            "SELECT pg_catalog.setval({name}::regclass, least(raised.up_to, m.seqmax))
             FROM {sequence} AS s
             JOIN pg_catalog.pg_sequence AS m ON m.seqrelid = {name}::regclass::oid
             CROSS JOIN LATERAL (SELECT CASE WHEN {highest} <= m.seqmax THEN {highest}
                 ELSE ({in_use}) END) AS raised (up_to)
             WHERE {HANDED_OUT} < least(raised.up_to, m.seqmax) AND m.seqincrement > 0",
            in_use = in_use(binding),
        )
    };
    if highest.is_empty() {
        return Ok(());
    }
    let sql = highest.iter().map(raise).collect::<Vec<_>>().join(" UNION ALL ");
    let raised = sql::query(AssertSqlSafe(sql)).persistent(false).execute(connection);
    raised.await.doing("raising sequences").map(drop)
}

impl Source {
    /// Returns what is wrong with the sequence that versions come from, if anything. With a cache each
    /// session hands out numbers of its own: a later change could have the lower version, and be refused as
    /// delivered (I2).
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn versions_out_of_order(&self) -> Result<Option<String>> {
        let settings: Option<(i64, i64, bool)> = sql::query_as(
            "SELECT seqcache, seqincrement, seqcycle FROM pg_sequence
             WHERE seqrelid = pg_catalog.to_regclass('lockstep.version_seq')::oid",
        )
        .fetch_optional(self.pool())
        .await
        .doing("looking at the sequence of versions")?;
        let Some((cache, increment, cycle)) = settings else {
            return Ok(Some("it is not there".to_owned()));
        };
        let mut wrong = Vec::new();
        if cache != 1 {
            wrong.push(format!("CACHE {cache}"));
        }
        if increment < 1 {
            wrong.push(format!("INCREMENT {increment}"));
        }
        if cycle {
            wrong.push("CYCLE".to_owned());
        }
        Ok((!wrong.is_empty()).then(|| wrong.join(", ")))
    }
}
