//! The order in which rows are read by their key, as a part of the fingerprint of a table.
//!
//! 1. A backfill has read up to the key `Z03000`, in the order of bytes. 2. `ALTER COLUMN key TYPE text
//! COLLATE "en-x-icu"` builds the index again, and nothing else: columns, types and file are the same. 3.
//! The backfill goes on behind `Z03000`, and never reads the rows that lie before it only now. 4. A
//! comparison that was broken off there has read them under the old order, or never, and says that all
//! rows are equal.
//!
//! The library that sorts is part of it: an upgrade of the system below, or a failover to a node with another
//! one, changes the order without any statement.

/// The order of the columns `$2` of the relation `c`, as an expression of the query of a fingerprint.
///
/// Of each collation below a column: what it is, and the version of its library. Where it is the
/// database's own, that of the database. A catalogue of an older PostgreSQL lacks some of these columns,
/// so that they are asked of the row as a document.
pub(super) const ORDER: &str = r"(SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(
        a.attnum || ' ' || (SELECT pg_catalog.concat_ws(' ', l.collprovider::text, l.collcollate,
            pg_catalog.to_jsonb(l) ->> 'colliculocale', pg_catalog.to_jsonb(l) ->> 'colllocale',
            pg_catalog.to_jsonb(l) ->> 'collicurules', l.collisdeterministic::text,
            pg_catalog.pg_collation_actual_version(l.oid),
            CASE WHEN l.collprovider = 'd' THEN (
                SELECT pg_catalog.concat_ws(' ', pg_catalog.to_jsonb(d) ->> 'datlocprovider', d.datcollate,
                    pg_catalog.to_jsonb(d) ->> 'daticulocale', pg_catalog.to_jsonb(d) ->> 'datlocale',
                    CASE WHEN pg_catalog.to_jsonb(d) ->> 'datlocprovider' = 'i' THEN
                        (SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(s.oid)) FROM pg_collation s
                         WHERE s.collname = 'und-x-icu')
                    ELSE (SELECT pg_catalog.max(pg_catalog.pg_collation_actual_version(s.oid)) FROM pg_collation s
                          WHERE s.collprovider = 'c' AND s.collcollate = d.datcollate) END)
                FROM pg_database d WHERE d.datname = pg_catalog.current_database()) END)
            FROM pg_collation l WHERE l.oid = used.oid), E'\n' ORDER BY a.attnum, used.oid), ''))
    FROM pg_attribute a CROSS JOIN LATERAL (
        SELECT a.attcollation
        UNION SELECT r.rngcollation FROM pg_range r WHERE r.rngtypid = a.atttypid
        UNION SELECT b.attcollation FROM pg_type y JOIN pg_attribute b ON b.attrelid = y.typrelid AND b.attnum > 0
            WHERE y.oid = a.atttypid) AS used (oid)
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2::text[])
        AND used.oid <> 0)";
