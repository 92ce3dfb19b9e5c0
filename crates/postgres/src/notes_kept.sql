-- A note is forgotten by a pass only where the transaction that made it had ended when the pass began.

-- 1. A role takes a mark or a dead letter out, in a transaction that it leaves open. The note has the number of now. 2. A full pass
-- begins, does not see that it is gone, and agrees. 3. The transaction commits. 4. The pass forgets the note, which is of before it:
-- incremental verdicts were silent of that key.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- The newest transaction that noted it. What is here already was noted by transactions that have ended: we hold the table's lock.
ALTER TABLE lockstep.unverified ADD COLUMN noted xid8 NOT NULL DEFAULT '0';

-- Which transactions had ended when a pass began.
CREATE TABLE lockstep.begun_passes (
    number bigint PRIMARY KEY,
    ended  pg_snapshot NOT NULL
);

-- The newest pass that had begun when something was found in a table. A pass up to that one is nothing to go on from, however much
-- later it ends: it may have read before.
CREATE TABLE lockstep.found (
    table_name text COLLATE "C" PRIMARY KEY,
    pass       bigint NOT NULL
);

CREATE OR REPLACE FUNCTION lockstep.note_delivered() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.pending'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_delivered is of lockstep.pending, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM lockstep.passes p WHERE p.noted_until > clock_timestamp()) THEN
        INSERT INTO lockstep.unverified AS u (table_name, key, pass, noted)
        SELECT g.table_name, g.key, p.number, pg_current_xact_id() FROM gone g CROSS JOIN lockstep.passes p
        -- Also where the pass is the same: this transaction may stay open over the next one, and the note would be of another that ended.
        ON CONFLICT (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape'))) DO UPDATE SET pass = greatest(u.pass, excluded.pass), noted = excluded.noted
        WHERE u.pass < excluded.pass OR u.noted <> excluded.noted;
    ELSIF EXISTS (SELECT FROM lockstep.verified) AND EXISTS (SELECT FROM gone) THEN
        DELETE FROM lockstep.verified;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION lockstep.note_delivered() FROM PUBLIC;

CREATE OR REPLACE FUNCTION lockstep.note_cured() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.dead_letters'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_cured is of lockstep.dead_letters, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM lockstep.passes p WHERE p.noted_until > clock_timestamp()) THEN
        INSERT INTO lockstep.unverified AS u (table_name, key, pass, noted)
        SELECT OLD.table_name, OLD.key, p.number, pg_current_xact_id() FROM lockstep.passes p
        ON CONFLICT (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape'))) DO UPDATE SET pass = greatest(u.pass, excluded.pass), noted = excluded.noted
        WHERE u.pass < excluded.pass OR u.noted <> excluded.noted;
    ELSE
        DELETE FROM lockstep.verified;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION lockstep.note_cured() FROM PUBLIC;
