//! Columns of a key whose type takes two texts for one value.
//!
//! 1. A table is keyed by an interval. 2. In DynamoOnly a service writes an item under `1 mon`, and another
//! one under `30 days`. 3. To DynamoDB they are two items; PostgreSQL has one row for both, which holds the
//! one that the feed brought last. 4. Neither the feed nor the way back can make two rows of them.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::types::Oid;

use crate::catalog::UNDER_DOMAINS;
use crate::sql;
use crate::{Source, TableBinding};

/// Types of PostgreSQL whose equal values have one text. A type is not among them unless that was seen: a
/// `tsquery` of `a` equals one of `a:*`, and what an extension takes for equal is its own affair.
const ONE_TEXT: &str = "'bool', 'int2', 'int4', 'int8', 'oid', 'text', 'varchar', 'name', 'char', 'uuid', \
    'bytea', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'money', 'bit', 'varbit', 'inet', 'cidr', \
    'macaddr', 'macaddr8', 'pg_lsn', 'xid8', 'tid', 'oidvector', 'tsvector'";

/// Types whose equal values a key spells in one way, where the column itself is of them: without zeros at the
/// end, both zeros of floating point as 0, without the blanks that pad. Inside of an array, a range or a
/// composite the text is PostgreSQL's.
const SPELLED_AS_ONE: &str = "'numeric', 'float4', 'float8', 'bpchar'";

/// Types of which a key takes one text alone: a value that is spelled otherwise in an item is brought to that
/// text, or refused, before its place is made of it. Not `name`, which is cut off, nor `bpchar`, whose blanks
/// PostgreSQL drops and an item keeps.
const TAKEN_IN_ONE: &str = "'bool', 'int2', 'int4', 'int8', 'text', 'varchar', 'uuid', 'bytea', 'date', 'time', \
    'timestamp', 'timestamptz', 'numeric', 'float4', 'float8'";

impl Source {
    /// Tells whether an item of a table may have its primary key in another text than PostgreSQL prints of
    /// its row: its type takes several texts for one value, whether equal values print alike or not.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn has_loose_key(&self, binding: &TableBinding) -> Result<bool> {
        let names: Vec<&str> = binding.primary_key().collect();
        let oid = self.class(binding, "looking at the texts of its key").await?;
        let oid: Oid = sqlx::Row::get(&oid, "oid");
        sql::query_scalar(AssertSqlSafe(format!(
            "SELECT EXISTS (SELECT FROM pg_attribute a CROSS JOIN LATERAL ({UNDER_DOMAINS}) AS b
                 JOIN pg_type y ON y.oid = b.oid
                 WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped AND (
                     y.typtype <> 'e' AND NOT (
                         y.typnamespace = 'pg_catalog'::regnamespace AND y.typname IN ({TAKEN_IN_ONE}))
                     OR EXISTS (SELECT FROM pg_collation l
                                WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)))"
        )))
        .bind(oid)
        .bind(&names)
        .fetch_one(self.pool())
        .await
        .doing("looking at the texts of its key")
    }

    /// Returns the columns of the key by which a table is moved whose equal values have several texts, each
    /// with the type that is the cause.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn keys_of_several_texts(&self, binding: &TableBinding) -> Result<Vec<(String, String)>> {
        let names: Vec<&str> = binding.primary_key().collect();
        let oid = self.class(binding, "looking at the types of its key").await?;
        let oid: Oid = sqlx::Row::get(&oid, "oid");
        sql::query_as(AssertSqlSafe(format!(
            "WITH RECURSIVE made_of (name, number, type, inside, ordered) AS (
                 SELECT a.attname::text, a.attnum, a.atttypid, false, a.attcollation
                 FROM pg_attribute a
                 WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
                 UNION
                 SELECT d.name, d.number, u.type, d.inside OR u.inside, u.ordered
                 FROM made_of d JOIN pg_type y ON y.oid = d.type CROSS JOIN LATERAL (
                     SELECT y.typbasetype, false, d.ordered WHERE y.typtype = 'd'
                     UNION ALL SELECT y.typelem, true, d.ordered
                         WHERE y.typcategory = 'A' AND y.typtype <> 'd'
                     UNION ALL SELECT r.rngsubtype, true, r.rngcollation FROM pg_range r
                         WHERE y.oid IN (r.rngtypid, (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid)
                     UNION ALL SELECT m.atttypid, true, m.attcollation FROM pg_attribute m
                         WHERE m.attrelid = y.typrelid AND m.attnum > 0 AND NOT m.attisdropped
                     ) AS u (type, inside, ordered) WHERE u.type <> 0)
             SELECT d.name, pg_catalog.min(CASE
                 WHEN l.oid IS NOT NULL THEN 'text under collation ' || l.collname
                 ELSE pg_catalog.format_type(d.type, NULL) END)
             FROM made_of d JOIN pg_type y ON y.oid = d.type
             LEFT JOIN pg_collation l ON l.oid = d.ordered AND NOT l.collisdeterministic
                 AND y.typcollation <> 0
             WHERE l.oid IS NOT NULL
                OR y.typtype = 'b' AND (y.typcategory <> 'A' OR y.typelem = 0)
                 AND NOT (y.typnamespace = 'pg_catalog'::regnamespace AND (y.typname IN ({ONE_TEXT})
                     OR NOT d.inside AND y.typname IN ({SPELLED_AS_ONE})))
             GROUP BY d.name, d.number ORDER BY d.number"
        )))
        .bind(oid)
        .bind(&names)
        .fetch_all(self.pool())
        .await
        .doing("looking at the types of its key")
    }
}
