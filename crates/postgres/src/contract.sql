-- The contract (I13): which tables the migration has, and where each goes, beside phase and epoch, where a writer can read it with
-- the rights that it has already.

-- Every write transaction reads this table, and waits for us as long as we wait. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.tables ADD COLUMN expiry text;
ALTER TABLE lockstep.control ADD COLUMN contract jsonb NOT NULL DEFAULT '[]';

CREATE FUNCTION lockstep.keep_contract() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE lockstep.control SET contract = coalesce((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', t.name, 'relation', t.relation, 'target_name', t.target_name,
            'target_id', t.target_id, 'layout', t.layout, 'expiry', t.expiry) ORDER BY t.name)
        FROM lockstep.tables t), '[]');
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_contract() FROM PUBLIC;

CREATE TRIGGER keep_contract AFTER INSERT OR DELETE OR UPDATE OF name, relation, target_name, target_id, layout, expiry
    ON lockstep.tables FOR EACH STATEMENT EXECUTE FUNCTION lockstep.keep_contract();

UPDATE lockstep.control SET contract = coalesce((
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', t.name, 'relation', t.relation, 'target_name', t.target_name,
        'target_id', t.target_id, 'layout', t.layout, 'expiry', t.expiry) ORDER BY t.name)
    FROM lockstep.tables t), '[]');
