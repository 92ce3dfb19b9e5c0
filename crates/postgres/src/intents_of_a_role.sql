-- An intent is of the role that made it: those of other roles neither stand in its way nor go with it. 1. A role recorded intents under
-- the transaction numbers to come and the keys of others. 2. The strict writes that got these numbers were refused as recorded already,
-- or held up for as long as its transaction was open.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

DROP INDEX lockstep.intents_by_transaction;
CREATE UNIQUE INDEX intents_by_transaction ON lockstep.intents
    (xid, table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')), owner);

CREATE OR REPLACE FUNCTION lockstep.guard_intents() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.repair_version > coalesce(pg_sequence_last_value('lockstep.version_seq'::regclass), 0) THEN
            RAISE EXCEPTION 'lockstep: this version was never handed out' USING ERRCODE = 'insufficient_privilege';
        END IF;
        -- It refuses a number that no transaction has got yet (22023). NULL: of one that is long over. The snapshot's own bound would
        -- not do: transactions under way are beyond it.
        IF pg_xact_status(NEW.xid) IS NULL THEN
            RAISE EXCEPTION 'lockstep: this transaction is long over' USING ERRCODE = 'insufficient_privilege';
        END IF;
        NEW.owner := current_user;
        NEW.made_at := clock_timestamp();
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'lockstep: an intent is made and settled, never changed' USING ERRCODE = 'insufficient_privilege';
END $$;
