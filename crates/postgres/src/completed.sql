-- What this database remembers of the migrations that are complete in it, where an application can read it with the rights that it has.

-- 1. A migration is complete, and its schema is gone. 2. A second one of other tables begins, with a schema of the same name. 3. An application
-- of the first starts, finds an identity that is not its own, and takes the second one's phase for its own. Here it finds itself. It is listed
-- before the identity is: between two of these migrations nothing can be mistaken either.

-- Every write transaction reads this table, and waits for us as long as we wait. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.control ADD COLUMN completed jsonb NOT NULL DEFAULT '[]';

DO $$
DECLARE
    last bigint;
BEGIN
    IF pg_catalog.to_regclass('lockstep_archive.completed') IS NOT NULL THEN
        -- An earlier version's has neither name nor tables.
        EXECUTE 'UPDATE lockstep.control SET completed = (
            SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c) - ''actor'' - ''journal_file'' ORDER BY c.completed_at), ''[]'')
            FROM lockstep_archive.completed c)';
        -- Epochs go on where those of the first ended. 1. A process of the first is suspended in its epoch 3. 2. The second is in its own epoch 3,
        -- and the process wakes: what it believes of epoch 3, and a version that it has in hand, would hold here. Where anything was captured, an
        -- earlier version began the second one, and its epochs stay. A number near the greatest (2^22) would leave no room for this one's.
        EXECUTE 'SELECT pg_catalog.max(c.epoch) FROM lockstep_archive.completed c' INTO last;
        IF last < 4000000 AND NOT EXISTS (SELECT 1 FROM lockstep.tables) THEN
            UPDATE lockstep.control SET epoch = last + 1 WHERE phase = 'PostgresOnly' AND epoch <= last;
            IF FOUND THEN
                PERFORM pg_catalog.setval('lockstep.version_seq', (last + 1) << 40);
            END IF;
        END IF;
    END IF;
END
$$;
