-- What two transactions change of the tables at once, the contract has both of.
--
-- 1. Two tables of the migration are changed at once. 2. The UPDATE of the second one waits for the first
-- one's transaction, and has looked at the tables before it began to wait. 3. It writes the contract without
-- what the first one changed. So the lock is taken by a statement of its own, and the next one sees what was
-- committed meanwhile.

-- Every write transaction reads `control`. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE OR REPLACE FUNCTION lockstep.keep_contract() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM lockstep.control FOR UPDATE;
    UPDATE lockstep.control SET contract = coalesce((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', t.name, 'relation', t.relation,
            'target_name', t.target_name, 'target_id', t.target_id, 'layout', t.layout, 'expiry', t.expiry)
            ORDER BY t.name)
        FROM lockstep.tables t), '[]');
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_contract() FROM PUBLIC;

-- What was lost before is put right, in the same two statements.
SELECT 1 FROM lockstep.control FOR UPDATE;
UPDATE lockstep.control SET contract = coalesce((
    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', t.name, 'relation', t.relation,
        'target_name', t.target_name, 'target_id', t.target_id, 'layout', t.layout, 'expiry', t.expiry)
        ORDER BY t.name)
    FROM lockstep.tables t), '[]');
