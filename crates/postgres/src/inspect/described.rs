//! Description of one table by the catalogue, question by question.

use lockstep_core::Advice::{Seed, TableSource};
use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, Row as _};

use crate::catalog::UNDER_DOMAINS;
use crate::sql;
use crate::{Source, TableBinding};

impl Source {
    /// The relation itself: its oid, and how large it is.
    pub(super) async fn class(&self, binding: &TableBinding, what: &str) -> Result<PgRow> {
        let class = sql::query(
            "SELECT c.oid, c.relkind::text AS kind, p.rows, p.pages, p.bytes
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             CROSS JOIN LATERAL (SELECT pg_catalog.sum(CASE WHEN l.reltuples > 0::float4 AND l.relpages > 0
                     THEN l.reltuples::float8 / l.relpages::float8 * h.pages::float8
                     ELSE 0::float8 END)::bigint AS rows,
                     pg_catalog.sum(h.pages)::bigint AS pages,
                     pg_catalog.sum(pg_catalog.pg_table_size(l.oid))::bigint AS bytes
                 FROM pg_class l CROSS JOIN LATERAL (SELECT pg_catalog.pg_relation_size(l.oid)
                         / pg_catalog.current_setting('block_size')::bigint AS pages) AS h
                 WHERE l.oid = c.oid AND c.relkind <> 'p'
                     OR l.oid IN (SELECT t.relid::oid FROM pg_catalog.pg_partition_tree(c.oid) AS t WHERE t.isleaf AND c.relkind = 'p')) AS p
             WHERE n.nspname = $1 AND c.relname = $2",
        )
        .bind(&binding.relation.schema)
        .bind(&binding.relation.name)
        .fetch_optional(self.pool())
        .await
        .doing(what)?;
        let missing = |message: String| Error::source(Kind::Misconfigured, what, message);
        let Some(class) = class else {
            return Err(missing(format!(
                "there is no table {}; set {} to where it is, or run {Seed} to create \
                 the sample",
                binding.relation,
                TableSource(binding.name().to_owned())
            )));
        };
        let kind: String = class.get("kind");
        if kind != "r" && kind != "p" {
            let what = match kind.as_str() {
                "f" => "a foreign table: its rows are written where no trigger of this server sees it",
                "v" | "m" => "a view: name the table under it",
                _ => "no table",
            };
            return Err(missing(format!("{} is {what} (relkind {kind})", binding.relation)));
        }
        Ok(class)
    }

    pub(super) async fn columns_there(&self, oid: Oid, what: &str) -> Result<Vec<PgRow>> {
        sql::query(AssertSqlSafe(format!(
            "SELECT attname::text AS name, pg_catalog.format_type(atttypid, atttypmod) AS type,
                NOT attnotnull AS nullable, pg_catalog.format_type(b.oid, b.modifier) AS base_type,
                t.typtype = 'e' AND b.oid <> a.atttypid AS is_of_enum,
                (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
                    WHERE e.enumtypid = a.atttypid) AS labels
             FROM pg_attribute a CROSS JOIN LATERAL ({UNDER_DOMAINS}) AS b JOIN pg_type t ON t.oid = b.oid
             WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        )))
        .bind(oid)
        .fetch_all(self.pool())
        .await
        .doing(what)
    }

    pub(super) async fn key_there(&self, oid: Oid, what: &str) -> Result<Option<PgRow>> {
        sql::query(
            "SELECT c.condeferrable AS deferrable, pg_catalog.array_agg(a.attname::text
                ORDER BY k.position) AS columns
             FROM pg_constraint c CROSS JOIN pg_catalog.unnest(c.conkey) WITH ORDINALITY k(attnum, position)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
             WHERE c.conrelid = $1 AND c.contype = 'p' GROUP BY c.condeferrable",
        )
        .bind(oid)
        .fetch_optional(self.pool())
        .await
        .doing(what)
    }

    /// For each column of the key by which the table is moved, which may be another unique index, whether
    /// its texts are folded and whether it has an order of its own.
    pub(super) async fn oddities(&self, binding: &TableBinding, oid: Oid, what: &str) -> Result<Vec<PgRow>> {
        let names: Vec<&str> = binding.primary_key().collect();
        sql::query(
            "WITH RECURSIVE typed (name, number, folded, type) AS (
                 SELECT a.attname::text, a.attnum, EXISTS (SELECT FROM pg_collation o
                     WHERE o.oid = a.attcollation AND NOT o.collisdeterministic), a.atttypid
                 FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
                 UNION ALL SELECT d.name, d.number, d.folded, t.typbasetype FROM typed d
                     JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd')
             SELECT d.name, pg_catalog.bool_or(d.folded) AS folded, pg_catalog.bool_or(EXISTS (
                 SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod WHERE m.amname = 'btree'
                     AND o.opcdefault AND o.opcintype = d.type AND o.opcnamespace <> 'pg_catalog'::regnamespace))
                 AS own_order
             FROM typed d GROUP BY d.name, d.number ORDER BY d.number",
        )
        .bind(oid)
        .bind(&names)
        .fetch_all(self.pool())
        .await
        .doing(what)
    }
}
