//! Rows that refer to nothing (R25): the tables they refer to stay behind, so the source alone can tell.

use lockstep_core::{Doing, Reference, Result, Window};

use super::window::window_sql;
use crate::sql;
use sqlx::AssertSqlSafe;

use super::binding::{Relation, quote_identifier};
use super::catalog::UNDER_DOMAINS;
use super::foreign_code::code_of_reads;
use super::trusted::is_alike_sql;
use super::{Source, TableBinding};

/// Rows whose reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    /// Number of rows.
    pub rows: u64,
    /// Some of their source keys, as JSON.
    pub keys: Vec<String>,
}

/// Answer to what rows of a table refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referred {
    /// It was looked for.
    Looked(Dangling),
    /// It was not, and why: a sentence.
    Unchecked(String),
}

/// A table that a reference leads to.
#[derive(sqlx_macros::FromRow)]
struct To {
    schema: String,
    name: String,
    /// Owner of the table.
    owner: String,
}

/// Whether the column that is referred to is there, and both are of one type, or of PostgreSQL's own.
#[derive(sqlx_macros::FromRow)]
struct Columns {
    is_there: bool,
    are_alike: bool,
}

impl Source {
    /// Returns the table that a reference leads to: that of the foreign key, if there is one; else the one of
    /// that name beside this table.
    async fn referred(&self, binding: &TableBinding, reference: &Reference) -> Result<Option<To>> {
        sql::query_as(
            "SELECT n.nspname::text AS schema, c.relname::text AS name, r.rolname::text AS owner
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_roles r ON r.oid = c.relowner
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid
                 AND k.contype = 'f' AND k.conrelid = pg_catalog.to_regclass($1)::oid) AS is_there) AS k
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
                 AND (k.is_there OR n.nspname = $3)
             ORDER BY NOT k.is_there, n.nspname <> $3 LIMIT 1",
        )
        .bind(binding.relation.sql())
        .bind(reference.to_table)
        .bind(&binding.relation.schema)
        .fetch_optional(self.pool())
        .await
        .doing("looking for the table of a reference")
    }

    /// Counts the rows that refer to a row that is not there, in one statement over both tables. NULL refers
    /// to nothing and is no error.
    ///
    /// Not where a read of the table could run code of another role, with the rights of the operator: 1. A
    /// foreign key leads to a table of such a role, or a partition or a child of it is that role's. 2. The
    /// role gives it an index, a constraint or statistics of an expression that calls its function, at any
    /// time: no lock that a reader may take keeps it from that. 3. PostgreSQL works such expressions out
    /// while it plans our statement. That role keeps nothing from being compared.
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
    ) -> Result<Referred> {
        let doing = "checking references";
        let unchecked = |why: String| {
            let to = format!("{}.{}", reference.to_table, reference.to_column);
            Ok(Referred::Unchecked(format!("references to {to}: {why}")))
        };
        let Some(found) = self.referred(binding, reference).await? else {
            return unchecked("there is no such column here".to_owned());
        };
        let whose = format!("the table {}.{} is of role {}", found.schema, found.name, found.owner);
        let to = Relation { schema: found.schema, name: found.name };
        let mut transaction = self.begin(doing).await?;
        if let Some(code) = code_of_reads(&mut transaction, &to, binding).await?.into_iter().next() {
            return unchecked(format!("{whose}, and reading it could run code of another role: {code}"));
        }
        let columns: Option<Columns> = sql::query_as(AssertSqlSafe(format!(
            "SELECT t.attname IS NOT NULL AS is_there, coalesce({}, false) AS are_alike
             FROM pg_attribute f CROSS JOIN LATERAL (SELECT b.oid FROM pg_attribute a
                 CROSS JOIN LATERAL ({UNDER_DOMAINS}) AS b
                 WHERE a.attrelid = f.attrelid AND a.attnum = f.attnum) AS own
             LEFT JOIN (SELECT a.attname, b.oid FROM pg_attribute a CROSS JOIN LATERAL ({UNDER_DOMAINS}) AS b
                 WHERE a.attrelid = pg_catalog.to_regclass($2)::oid AND a.attname = $4 AND NOT a.attisdropped)
                 AS t ON true
             WHERE f.attrelid = pg_catalog.to_regclass($1)::oid AND f.attname = $3 AND NOT f.attisdropped",
            is_alike_sql("own.oid", "t.oid"),
        )))
        .bind(binding.relation.sql())
        .bind(to.sql())
        .bind(reference.column)
        .bind(reference.to_column)
        .fetch_optional(&mut *transaction)
        .await
        .doing(doing)?;
        if !columns.as_ref().is_some_and(|columns| columns.is_there) {
            return unchecked("there is no such column here".to_owned());
        }
        if !columns.is_some_and(|columns| columns.are_alike) {
            return unchecked(format!(
                "{whose}, and the two columns are of types that only a cast makes one"
            ));
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
            sql::query_as(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await.doing(doing)?;
        transaction.rollback().await.doing(doing)?;
        Ok(Referred::Looked(Dangling { rows: rows.unsigned_abs(), keys }))
    }
}
