-- What the hint of a refused write names is a command of Lockstep, by whatever program it is run. 1. An operator has the program
-- `lockstep`, and no checkout. 2. A script that writes SQL is refused in DynamoOnly. 3. Its hint named `cargo xtask`.
CREATE OR REPLACE FUNCTION lockstep.refuse_frozen(operation text, frozen text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved text;
    target text;
    since record;
BEGIN
    SELECT string_agg(t.name, ', ' ORDER BY t.name), max(t.target_name) FILTER (WHERE t.relation = frozen)
        INTO moved, target FROM lockstep.tables t;
    SELECT c.epoch, c.changed_at INTO since FROM lockstep.control c;
    RAISE EXCEPTION 'lockstep: % of % is refused: the migration of % is in phase DynamoOnly (epoch %, since %), and DynamoDB table % is the truth',
        operation, frozen, moved, since.epoch, date_trunc('second', since.changed_at), target
        USING HINT = 'Write through the Lockstep store of an application. To write with SQL again, go back to HybridRead first '
                  || '(Lockstep''s command `rollback`): everything written meanwhile comes along.',
              ERRCODE = 'object_not_in_prerequisite_state';
END $$;
