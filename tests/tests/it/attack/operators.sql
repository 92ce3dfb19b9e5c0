-- Better matches than PostgreSQL's own for two types that have no operator of their own. Each notes that it was called by a
-- session with a name, and answers as PostgreSQL would.
DO $plant$
DECLARE
    one record;
    made integer := 0;
BEGIN
    FOR one IN
        WITH numbers (name) AS (VALUES ('smallint'), ('integer'), ('bigint'), ('real'), ('double precision'), ('numeric')),
             texts (name) AS (VALUES ('text'), ('character varying'), ('character'), ('name')),
             moments (name) AS (VALUES ('timestamptz'), ('timestamp'), ('date')),
             objects (name) AS (VALUES ('oid'), ('regclass'), ('integer'), ('bigint')),
             compare (symbol) AS (VALUES ('='), ('<>'), ('<'), ('<='), ('>'), ('>=')),
             joined (name) AS (SELECT name FROM texts UNION SELECT name FROM numbers UNION SELECT name FROM moments
                 UNION VALUES ('oid'), ('regclass'), ('xid8'), ('boolean'), ('uuid'), ('pg_lsn'))
        SELECT c.symbol, l.name AS l, r.name AS r, 'boolean' AS gives, 'both' AS casts,
            CASE WHEN l.name IN ('real', 'double precision') OR r.name IN ('real', 'double precision')
                 THEN 'double precision' ELSE 'numeric' END AS via
        FROM numbers l, numbers r, compare c
        UNION ALL
        SELECT s.symbol, l.name, r.name, v.via, 'both', v.via
        FROM numbers l, numbers r, (VALUES ('+'), ('-'), ('*'), ('/')) AS s (symbol), LATERAL (
            SELECT CASE WHEN l.name IN ('real', 'double precision') OR r.name IN ('real', 'double precision')
                        THEN 'double precision' ELSE 'numeric' END AS via) AS v
        UNION ALL SELECT c.symbol, l.name, r.name, 'boolean', 'both', 'text' FROM texts l, texts r, compare c
        UNION ALL SELECT c.symbol, l.name, r.name, 'boolean', 'both', 'timestamptz' FROM moments l, moments r, compare c
        UNION ALL SELECT '-', l.name, r.name, 'interval', 'both', 'timestamptz' FROM moments l, moments r
        UNION ALL
        SELECT c.symbol, l.name, r.name, 'boolean', 'both', 'oid' FROM objects l, objects r, compare c
        WHERE c.symbol IN ('=', '<>') AND (l.name IN ('oid', 'regclass') OR r.name IN ('oid', 'regclass'))
        UNION ALL
        SELECT s.symbol, 'interval', n.name, 'interval', 'right', 'double precision'
        FROM numbers n, (VALUES ('*'), ('/')) AS s (symbol)
        UNION ALL SELECT '*', n.name, 'interval', 'interval', 'left', 'double precision' FROM numbers n
        UNION ALL
        SELECT '||', l.name, r.name, 'text', 'both', 'text' FROM joined l, joined r
        WHERE l.name IN (SELECT name FROM texts) OR r.name IN (SELECT name FROM texts)
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_operator o WHERE o.oprname = one.symbol
            AND o.oprleft = one.l::regtype AND o.oprright = one.r::regtype);
        made := made + 1;
        EXECUTE format(
            $f$CREATE FUNCTION public.decoy_%s(%s, %s) RETURNS %s LANGUAGE sql VOLATILE AS $body$
                 INSERT INTO public.called
                 SELECT %L WHERE pg_catalog.current_setting('application_name') OPERATOR(pg_catalog.<>) '';
                 SELECT $1%s OPERATOR(pg_catalog.%s) $2%s $body$$f$,
            made, one.l, one.r, one.gives, format('%s %s %s', one.l, one.symbol, one.r),
            CASE WHEN one.casts <> 'right' THEN '::' || one.via ELSE '' END, one.symbol,
            CASE WHEN one.casts <> 'left' THEN '::' || one.via ELSE '' END);
        EXECUTE format('ALTER FUNCTION public.decoy_%s(%s, %s) OWNER TO MALLORY', made, one.l, one.r);
        EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.decoy_%s, LEFTARG = %s, RIGHTARG = %s)',
                       one.symbol, made, one.l, one.r);
    END LOOP;
END $plant$
