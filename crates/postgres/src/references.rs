//! Rows that refer to nothing (R25): the tables they refer to stay behind, so the source alone can tell.

use lockstep_core::{Doing, Reference, Result, Window};

use super::window::window_sql;
use crate::sql;
use sqlx::AssertSqlSafe;

use super::binding::{Relation, quote_identifier};
use super::{Source, TableBinding};

/// Rows whose reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// Number of rows.
    pub rows: u64,
    /// Some of their source keys, as JSON.
    pub keys: Vec<String>,
}

impl Source {
    /// Returns the table that a reference leads to: that of the foreign key, if there is one; else the one of
    /// that name beside this table; else the only one of that name in any schema.
    async fn referred(&self, binding: &TableBinding, reference: &Reference) -> Result<Option<Relation>> {
        let found: Option<(String, String)> = sql::query_as(
            "SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = \
            c.relnamespace
             LEFT JOIN pg_constraint k ON k.confrelid = c.oid AND k.contype = 'f'
                 AND k.conrelid = pg_catalog.to_regclass($1)::oid
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
                 AND (k.oid IS NOT NULL OR n.nspname = $3 OR (
                     SELECT pg_catalog.count(*) FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace
                     WHERE o.relname = $2 AND o.relkind IN ('r', 'p') AND s.nspname !~ '^pg_') = 1)
             ORDER BY k.oid IS NULL, n.nspname <> $3 LIMIT 1",
        )
        .bind(binding.relation.sql())
        .bind(reference.to_table)
        .bind(&binding.relation.schema)
        .fetch_optional(self.pool())
        .await
        .doing("looking for the table of a reference")?;
        Ok(found.map(|(schema, name)| Relation { schema, name }))
    }

    /// Counts the rows that refer to a row that is not there, in one statement over both tables. NULL refers
    /// to nothing and is no error. `None` where the table or the column referred to does not exist.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn dangling(
        &self,
        binding: &TableBinding,
        reference: &Reference,
        window: &Window,
        keys_max: usize,
    ) -> Result<Option<Dangling>> {
        let doing = "checking references";
        let Some(to) = self.referred(binding, reference).await? else { return Ok(None) };
        let there: bool = sql::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = pg_catalog.to_regclass($1)::oid
                AND attname = $2 AND NOT attisdropped)",
        )
        .bind(to.sql())
        .bind(reference.to_column)
        .fetch_one(self.pool())
        .await
        .doing(doing)?;
        if !there {
            return Ok(None);
        }
        let column = quote_identifier(reference.column);
        let sql = format!(
            "WITH dangling AS MATERIALIZED (
                 SELECT {key} AS key FROM {relation} AS s
                 WHERE s.{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {to} AS t WHERE t.{to_column} = s.{column}){window})
             SELECT (SELECT pg_catalog.count(*) FROM dangling), ARRAY(SELECT key::text FROM dangling
                 ORDER BY key LIMIT {keys_max})",
            key = binding.key_sql("s"),
            relation = binding.relation.sql(),
            to = to.sql(),
            to_column = quote_identifier(reference.to_column),
            window = window_sql(window, binding, "AND"),
        );
        let (rows, keys): (i64, Vec<String>) =
            sql::query_as(AssertSqlSafe(sql)).fetch_one(self.pool()).await.doing(doing)?;
        Ok(Some(Dangling { rows: rows.unsigned_abs(), keys }))
    }
}
