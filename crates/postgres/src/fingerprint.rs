//! The statement that takes the fingerprint of a relation; [`shape`](super::shape) compares two of them.

use std::sync::LazyLock;

use lockstep_core::{Doing, Result};
use sqlx::PgExecutor;

use super::TableBinding;
use super::partitions::{self, LINES, TREE};
use super::read_order::ORDER;
use crate::sql;

pub(super) const DOING: &str = "reading the columns of a table";

/// The fingerprint of the relation `$1`, whose rows are told apart by the columns `$2`; no row where there is
/// none.
///
/// The key is asked for as it is now, and not recorded: `REINDEX` and an index that is made before the old
/// one is dropped change nothing. 1. A table is moved by a unique index. 2. The index is dropped, and a
/// second row of one key comes. 3. Both are one item: one of them is lost. So the columns of the key, or some
/// of them, have to be NOT NULL and to have a unique index that is valid, whole, over columns only and
/// checked at once.
///
/// Names of schema `public` are left out: they are printed for sessions with our own search path, and were
/// not for those before it.
///
/// Of the shape: numbers of the columns with the expressions of generated ones and the labels of enums; the
/// transactions that last changed a column; the file of the rows; the order of the key (see [`order`]). A
/// rewrite of values changes both transactions and file. `VACUUM FULL` changes the file alone, `SET
/// STATISTICS` the column alone, and neither changes a value.
pub(super) static FINGERPRINT: LazyLock<String> = LazyLock::new(|| {
    format!(
        r"WITH RECURSIVE {TREE}
SELECT coalesce((SELECT pg_catalog.string_agg(a.attname || ' '
                        || pg_catalog.regexp_replace(pg_catalog.format_type(a.atttypid, a.atttypmod),
                            '^public\.', '')
                        || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, E'\n' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')
    || coalesce((SELECT E'\n' || pg_catalog.pg_get_constraintdef(k.oid) FROM pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype = 'p'), '')
    || E'\nlockstep shape: '
    || (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname,
                   (SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                       '\mpublic\.', '', 'g')
                    FROM pg_attrdef d
                    WHERE a.attgenerated <> '' AND d.adrelid = a.attrelid AND d.adnum = a.attnum),
                   -- Also below a domain, an array, a range or a composite type: a label that is renamed, as an
                   -- attribute of a composite, changes what every row prints, and no row.
                   (WITH RECURSIVE made_of (oid) AS (SELECT a.atttypid UNION SELECT u.oid FROM made_of
                           JOIN pg_type y ON y.oid = made_of.oid CROSS JOIN LATERAL (
                               SELECT y.typbasetype
                               UNION ALL SELECT y.typelem WHERE y.typcategory = 'A'
                               UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = y.oid
                                   OR y.typcategory = 'R' AND (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = y.oid
                               UNION ALL SELECT b.atttypid FROM pg_attribute b WHERE b.attrelid = y.typrelid
                                   AND b.attnum > 0 AND NOT b.attisdropped) AS u (oid) WHERE u.oid <> 0)
                       SELECT nullif(pg_catalog.concat_ws(' ',
                           (SELECT pg_catalog.string_agg(e.enumlabel, ' ' ORDER BY e.enumtypid, e.enumsortorder)
                               FROM pg_enum e JOIN made_of m ON m.oid = e.enumtypid),
                           (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', b.attnum, b.attname,
                                   pg_catalog.format_type(b.atttypid, b.atttypmod)), ' ' ORDER BY b.attrelid, b.attnum)
                               FROM pg_attribute b JOIN pg_type y ON y.typrelid = b.attrelid
                               JOIN made_of m ON m.oid = y.oid
                               WHERE b.attnum > 0 AND NOT b.attisdropped)), '')
                       -- Most columns are of types that initdb made: no statement renames what is in them.
                       WHERE a.atttypid >= 16384 OR EXISTS (SELECT FROM pg_type y LEFT JOIN pg_type e ON e.oid = y.typelem
                           WHERE y.oid = a.atttypid AND (y.typrelid <> 0 OR e.typrelid <> 0)))),
                   E'\n' ORDER BY a.attnum), ''))
               || ' ' || pg_catalog.md5(coalesce(pg_catalog.string_agg(a.xmin::text, ' '
                   ORDER BY a.attnum), ''))
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    || ' ' || coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)
    || ' ' || {ORDER}
    || coalesce({LINES}, '')
    || coalesce((SELECT pg_catalog.string_agg(E'\nlockstep hides: ' || pg_catalog.translate(h.what, E'\n',
        ' '), '' ORDER BY h.what) FROM (
         SELECT 'kind: it is ' || CASE c.relkind WHEN 'f' THEN 'a foreign table' WHEN 'v' THEN 'a view'
                    WHEN 'm' THEN 'a materialized view' ELSE 'a relation of kind ' || c.relkind::text END WHERE c.relkind NOT IN ('r', 'p')
         UNION ALL {HIDES}
         UNION ALL SELECT 'partition: it is a partition of '
             || (SELECT pg_catalog.string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhparent)
                    FROM pg_inherits i WHERE i.inhrelid = c.oid) WHERE c.relispartition
         UNION ALL SELECT 'inheritance: it inherits from '
             || pg_catalog.string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhparent)
                    FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition
                        HAVING pg_catalog.count(*) > 0
         UNION ALL SELECT 'inheritance: rows of ' || pg_catalog.string_agg(i.inhrelid::regclass::text, ', '
             ORDER BY i.inhrelid)
                    || ' are read through it, and no trigger of it captures them'
                    FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind <> 'p'
                        HAVING pg_catalog.count(*) > 0
         UNION ALL SELECT 'persistence: it is ' || CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED: a crash of the server empties it, and no trigger fires'
                    ELSE 'TEMPORARY: no other session sees its rows' END WHERE c.relpersistence <> 'p'
         UNION ALL SELECT 'row security: role ' || pg_catalog.quote_ident(current_user::text)
             || ' sees only the rows that '
                    || coalesce((SELECT 'policy ' || pg_catalog.string_agg(pg_catalog.quote_ident(p.polname),
                        ', policy ' ORDER BY p.polname)
                                 FROM pg_policy p WHERE p.polrelid = c.oid), 'row level security without a policy') || ' shows to it'
                    WHERE pg_catalog.row_security_active(c.oid)
         UNION ALL SELECT 'rule: rule ' || pg_catalog.string_agg(pg_catalog.quote_ident(r.rulename), ', '
             ORDER BY r.rulename)
                    || ' rewrites what is written to it'
                    FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1' AND r.ev_enabled <> 'D'
                        HAVING pg_catalog.count(*) > 0
         UNION ALL SELECT 'key: no unique index that is valid, not partial and not deferrable, '
             || 'over columns that are NOT NULL, says that (' || pg_catalog.array_to_string($2::text[], ', ')
             || ') is the key of one row: two rows would be one item'
             WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_index i
                 WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                     AND i.indpred IS NULL AND i.indexprs IS NULL
                     AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (n)
                         WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                             AND a.attnum = i.indkey[k.n] AND a.attname = ANY ($2::text[]) AND a.attnotnull
                             -- PostgreSQL 18 sets it also by NOT NULL .. NOT VALID.
                             AND NOT EXISTS (SELECT FROM pg_constraint v WHERE v.conrelid = c.oid
                                 AND v.contype = 'n' AND NOT v.convalidated AND a.attnum = ANY (v.conkey)))))
       ) AS h (what)), '')
FROM pg_class c WHERE c.oid = pg_catalog.to_regclass($1)::oid",
        HIDES = partitions::HIDES,
    )
});

/// Returns the fingerprint of a relation as `connection` sees it; empty where there is none.
pub(super) async fn fingerprint(connection: impl PgExecutor<'_>, binding: &TableBinding) -> Result<String> {
    let key: Vec<&str> = binding.primary_key().collect();
    let found = sql::query_scalar(FINGERPRINT.as_str())
        .bind(binding.relation.sql())
        .bind(key)
        .fetch_optional(connection)
        .await;
    Ok(found.doing(DOING)?.unwrap_or_default())
}
