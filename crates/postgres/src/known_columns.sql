-- The columns of each table, beside where it goes: a build that does not know one of them writes no more.
--
-- 1. A column is added, and taken: each item has it. 2. An application of the build before puts a row, and
-- delivers it at once, without the column. 3. Its mark goes, and no relay brings what is missing.

-- Every write transaction reads `control`. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- NULL where an earlier Lockstep captured the table: then nothing is asked.
ALTER TABLE lockstep.tables ADD COLUMN columns jsonb;

CREATE OR REPLACE FUNCTION lockstep.keep_contract() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM lockstep.control FOR UPDATE;
    UPDATE lockstep.control SET contract = coalesce((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', t.name, 'relation', t.relation,
            'target_name', t.target_name, 'target_id', t.target_id, 'layout', t.layout, 'expiry', t.expiry,
            'columns', t.columns)
            ORDER BY t.name)
        FROM lockstep.tables t), '[]');
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_contract() FROM PUBLIC;

DROP TRIGGER keep_contract ON lockstep.tables;
CREATE TRIGGER keep_contract
    AFTER INSERT OR DELETE OR UPDATE OF name, relation, target_name, target_id, layout, expiry, columns
    ON lockstep.tables FOR EACH STATEMENT EXECUTE FUNCTION lockstep.keep_contract();
