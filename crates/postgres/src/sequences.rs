//! The sequences behind identity keys.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{Source, TableBinding, quote_identifier};

/// The sequence that gives a table its primary key, as SQL names it; `None` where no sequence does. It is the
/// column's own, or the one that its default calls: those of Hibernate, and those that were made by hand,
/// belong to no column.
#[crate::boxed]
pub async fn identity_of(connection: &mut PgConnection, binding: &TableBinding) -> Result<Option<String>> {
    let mut columns = binding.primary_key();
    let (Some(column), None) = (columns.next(), columns.next()) else { return Ok(None) };
    let sql = "SELECT coalesce(pg_catalog.pg_get_serial_sequence($1, $2), (
            SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.relname)
            FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            JOIN pg_catalog.pg_depend p ON p.objid = d.oid
                AND p.classid = 'pg_catalog.pg_attrdef'::regclass::oid
            JOIN pg_catalog.pg_class s ON s.oid = p.refobjid
                AND p.refclassid = 'pg_catalog.pg_class'::regclass::oid
                AND s.relkind = 'S'
            JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
            WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attname = $2 ORDER BY s.oid LIMIT 1))";
    sqlx::query_scalar(sql)
        .bind(binding.relation.sql())
        .bind(column)
        .fetch_one(connection)
        .await
        .doing("looking for the sequence of a key")
}

/// By how much a sequence goes on: 1 as a rule, more where a program takes a block of ids with each call, and
/// below 0 where it counts down.
#[crate::boxed]
pub async fn increment_of(connection: &mut PgConnection, sequence: &str) -> Result<i64> {
    sqlx::query_scalar("SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = $1::regclass::oid")
        .bind(sequence)
        .fetch_one(connection)
        .await
        .doing("looking at the sequence of a key")
}

/// The highest id that was handed out or is in use; 0 where there is none. Of a sequence that goes on by more
/// than one, a program may have taken the whole block that begins with its value.
#[crate::boxed]
pub async fn highest_id(
    connection: &mut PgConnection,
    binding: &TableBinding,
    sequence: &str,
) -> Result<i64> {
    let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}");
    let doing = format!("looking for the highest id of {}", binding.name());
    let handed_out: i64 =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.doing(&doing)?;
    let block = increment_of(connection, sequence).await?.max(1) - 1;
    Ok(handed_out.saturating_add(block).max(highest_id_in_use(connection, binding).await?))
}

/// The highest id that is in use; 0 where there is none.
#[crate::boxed]
pub async fn highest_id_in_use(connection: &mut PgConnection, binding: &TableBinding) -> Result<i64> {
    let column = quote_identifier(binding.primary_key().next().unwrap_or_default());
    let sql = format!("SELECT greatest(pg_catalog.max({column})::bigint, 0) FROM {}", binding.relation.sql());
    let doing = format!("looking for the highest id of {}", binding.name());
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.doing(&doing)
}

/// Makes sure that the sequence hands out nothing up to `highest`. Like every sequence it knows no rollback:
/// a gap may stay.
#[crate::boxed]
pub async fn raise_sequence(connection: &mut PgConnection, sequence: &str, highest: i64) -> Result<()> {
    let sql = format!("SELECT pg_catalog.setval($1::regclass, $2) FROM {sequence} WHERE last_value < $2");
    sqlx::query(AssertSqlSafe(sql))
        .bind(sequence)
        .bind(highest)
        .execute(connection)
        .await
        .doing("raising a sequence")?;
    Ok(())
}

impl Source {
    /// What is wrong with the sequence that versions come from, if anything. With a cache each session hands
    /// out numbers of its own: a later change could have the lower version, and be refused as delivered (I2).
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn versions_out_of_order(&self) -> Result<Option<String>> {
        let settings: Option<(i64, i64, bool)> = sqlx::query_as(
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
