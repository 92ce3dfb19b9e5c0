//! Rows that refer to nothing (R25): the tables they refer to stay behind, so the source alone can tell.

use std::time::Duration;

use lockstep_core::{Doing, Kind, Reference, Result, Window};

use super::window::window_sql;
use sqlx::AssertSqlSafe;

use super::barrier::limit_lock_waits;
use super::binding::{Relation, quote_identifier};
use super::catalog::UNDER_DOMAINS;
use super::foreign_code::code_of_reads;
use super::trusted::{is_alike_sql, is_trusted_sql};
use super::{Source, TableBinding};

/// Longest wait for a table of a stranger.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

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
    owner: String,
    /// A foreign key says so, and not the name alone.
    by_foreign_key: bool,
    is_trusted: bool,
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
        sqlx::query_as(AssertSqlSafe(format!(
            "SELECT n.nspname::text AS schema, c.relname::text AS name, r.rolname::text AS owner,
                 k.is_there AS by_foreign_key, {} AS is_trusted
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_roles r ON r.oid = c.relowner
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid
                 AND k.contype = 'f' AND k.conrelid = pg_catalog.to_regclass($1)::oid) AS is_there) AS k
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
                 AND (k.is_there OR n.nspname = $3)
             ORDER BY NOT k.is_there, n.nspname <> $3 LIMIT 1",
            is_trusted_sql("c.relowner", "$1"),
        )))
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
    /// Not where the table is a stranger's, for whom a read would run code: 1. There is no table of that
    /// name. 2. Another role makes one, of a type with a cast by a function of its own. 3. The comparison of
    /// the columns calls it, with the rights of the operator. That role keeps nothing from being compared.
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
        if !found.is_trusted && !found.by_foreign_key {
            return unchecked(format!("{whose}, whose code reading it could run"));
        }
        let to = Relation { schema: found.schema, name: found.name };
        let mut transaction = self.begin(doing).await?;
        if !found.is_trusted {
            // Its columns stay as they are from here on. A role that keeps it locked holds no comparison up.
            limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
            let lock = AssertSqlSafe(format!("LOCK TABLE {} IN ACCESS SHARE MODE", to.sql()));
            match sqlx::query(lock).persistent(false).execute(&mut *transaction).await.doing(doing) {
                Err(error) if error.kind == Kind::Busy => {
                    return unchecked(format!("{whose}, and is locked"));
                }
                locked => locked?,
            };
            if let Some(code) = code_of_reads(&mut transaction, &to, binding).await?.into_iter().next() {
                return unchecked(format!("{whose}, and reading it runs code of the {code}"));
            }
        }
        let columns: Option<Columns> = sqlx::query_as(AssertSqlSafe(format!(
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
            sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await.doing(doing)?;
        transaction.rollback().await.doing(doing)?;
        Ok(Referred::Looked(Dangling { rows: rows.unsigned_abs(), keys }))
    }
}
