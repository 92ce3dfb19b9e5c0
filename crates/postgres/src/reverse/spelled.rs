//! Decimals in a primary key, spelled as their items spell them.
//!
//! 1. A table is keyed by a `numeric` without a scale, and its row says 1.0. A place has no zeros at the end.
//! 2. In DynamoOnly a service writes that item with 1.00. 3. An upsert leaves the columns alone by which it
//! finds the row: PostgreSQL keeps 1.0. 4. Row and item differ in the key, whatever is fed, and both the way
//! back and the completion stay closed.
//!
//! Of these types alone: an item under another text of any other type is another item (see `texts`), whose
//! row would take the place of the first one's.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::surroundings::OURS;
use crate::binding::{list, quote_identifier};
use crate::catalog::UNDER_DOMAINS;
use crate::sql;
use crate::{Source, TableBinding};

/// Columns of a primary key that are decimals.
#[derive(Clone, Debug, Default)]
pub(super) struct Decimals {
    /// Those that are given the spelling of their items.
    given: Vec<&'static str>,
    /// Those that stay as they are spelled, as foreign keys forbid or act on each change of them.
    pub(super) kept: Vec<&'static str>,
}

impl Decimals {
    /// Returns the statement that gives rows with these keys the spelling that they have here; `None` where
    /// no column has several. `values` returns the parameters of a primary key, by the number of the row.
    ///
    /// A statement of its own, which changes a row only where it differs: a column that an upsert sets has
    /// the triggers fire that the application has on updates of it, at each row.
    pub(super) fn spell_sql(
        &self,
        binding: &TableBinding,
        rows: usize,
        values: impl Fn(usize) -> String,
    ) -> Option<String> {
        if self.given.is_empty() {
            return None;
        }
        let given = || self.given.iter().map(|name| quote_identifier(name));
        let same = binding
            .primary_key()
            .map(quote_identifier)
            .map(|name| format!("s.{name} OPERATOR(pg_catalog.=) v.{name}"));
        let otherwise = given().map(|name| format!("s.{name}::text OPERATOR(pg_catalog.<>) v.{name}::text"));
        Some(format!(
            "UPDATE {} AS s SET {} FROM (VALUES {}) AS v ({}) WHERE {} AND ({})",
            binding.relation.sql(),
            list(given().map(|name| format!("{name} = v.{name}"))),
            list((0..rows).map(values)),
            list(binding.primary_key().map(quote_identifier)),
            same.collect::<Vec<_>>().join(" AND "),
            otherwise.collect::<Vec<_>>().join(" OR "),
        ))
    }
}

impl Source {
    /// Reads which columns of a primary key are decimals. One that PostgreSQL computes is not among them.
    ///
    /// Not one that a foreign key refers to with an action that would do more than spell its own rows alike:
    /// RESTRICT refuses, and SET NULL or SET DEFAULT take what they refer to away from rows, also of tables
    /// that are not moved. ON UPDATE CASCADE gives them the same spelling, and what they say themselves is
    /// put back as of any row that rides along.
    pub(super) async fn decimals(&self, binding: &TableBinding) -> Result<Decimals> {
        let found: Vec<(String, bool)> = sql::query_as(AssertSqlSafe(format!(
            "SELECT a.attname::text, EXISTS (SELECT FROM pg_constraint c
                 JOIN LATERAL pg_catalog.unnest(c.confkey) AS k (number) ON true
                 JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum = k.number
                 WHERE c.contype = 'f' AND c.confrelid IN (SELECT {OURS}) AND t.attname = a.attname
                     AND c.confupdtype IN ('r', 'n', 'd'))
             FROM pg_attribute a CROSS JOIN LATERAL ({UNDER_DOMAINS}) AS b
             WHERE a.attrelid = pg_catalog.to_regclass($1)::oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND a.attgenerated = '' AND a.attname = ANY ($2::text[]) AND b.oid = 'numeric'::regtype"
        )))
        .bind(binding.relation.sql())
        .bind(binding.primary_key().collect::<Vec<_>>())
        .fetch_all(self.pool())
        .await
        .doing("looking for decimals in a key")?;
        let names = |is_kept: bool| {
            let is = |name: &str| found.iter().any(|(found, kept)| found == name && *kept == is_kept);
            binding.primary_key().filter(|name| is(name)).collect::<Vec<&'static str>>()
        };
        Ok(Decimals { given: names(false), kept: names(true) })
    }
}
