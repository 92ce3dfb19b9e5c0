-- What an application's role can do here is no more than the protocol needs of it. It holds SELECT, INSERT, UPDATE and DELETE on the
-- tables of the protocol, so triggers judge what it writes; capture runs with the rights of our owner and pays nothing for them.

-- Writers queue behind us for as long as we wait for a lock.
SET LOCAL lock_timeout = '2s';

-- 1. EXECUTE is PUBLIC's by default. 2. A role attaches a SECURITY DEFINER trigger function to a table of its own, where the names in
-- it mean what that role likes. 3. Code of that role runs with our rights. Firing a trigger of ours needs no EXECUTE.
REVOKE ALL ON FUNCTION lockstep.note_delivered(), lockstep.journal_is_append_only(), lockstep.refuse_frozen(text, text) FROM PUBLIC;
DO $revoke$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prorettype = 'pg_catalog.trigger'::regtype
    LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION ' || made || ' FROM PUBLIC';
    END LOOP;
END $revoke$;
ALTER FUNCTION lockstep.journal_is_append_only() SET search_path = pg_catalog, pg_temp;

-- As it was, and on no table but the one it was written for.
CREATE OR REPLACE FUNCTION lockstep.note_delivered() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.pending'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_delivered is of lockstep.pending, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO lockstep.unverified AS u (table_name, key, pass)
    SELECT g.table_name, g.key, p.number FROM gone g CROSS JOIN lockstep.passes p WHERE p.noted_until > clock_timestamp()
    -- A key that changes all the time is noted once a pass.
    ON CONFLICT (table_name, key) DO UPDATE SET pass = excluded.pass WHERE u.pass < excluded.pass;
    RETURN NULL;
END $$;

-- What is here already and cannot be: no trigger of ours made a mark whose key is no array, and what was never handed out is handed
-- out now, so that the key is delivered and later changes outrank it.
DELETE FROM lockstep.pending WHERE jsonb_typeof(key) <> 'array';
DELETE FROM lockstep.intents WHERE jsonb_typeof(key) <> 'array';
UPDATE lockstep.pending SET version = nextval('lockstep.version_seq')
WHERE version < 1 OR version > (SELECT last_value FROM lockstep.version_seq);
UPDATE lockstep.intents SET repair_version = nextval('lockstep.version_seq')
WHERE repair_version < 1 OR repair_version > (SELECT last_value FROM lockstep.version_seq);
UPDATE lockstep.pending SET marked_at = clock_timestamp() WHERE NOT isfinite(marked_at);
UPDATE lockstep.intents SET made_at = clock_timestamp() WHERE NOT isfinite(made_at);
UPDATE lockstep.instances SET lease_ms = least(lease_ms, 60000),
    renewed_at = CASE WHEN isfinite(renewed_at) THEN renewed_at ELSE clock_timestamp() END,
    started_at = CASE WHEN isfinite(started_at) THEN started_at ELSE clock_timestamp() END;

ALTER TABLE lockstep.pending
    ADD CONSTRAINT key_is_a_list CHECK (jsonb_typeof(key) = 'array') NOT VALID,
    ADD CONSTRAINT version_is_one CHECK (version > 0) NOT VALID,
    ADD CONSTRAINT marked_some_day CHECK (isfinite(marked_at)) NOT VALID;
ALTER TABLE lockstep.intents
    ADD CONSTRAINT key_is_a_list CHECK (jsonb_typeof(key) = 'array') NOT VALID,
    ADD CONSTRAINT version_is_one CHECK (repair_version > 0) NOT VALID,
    ADD CONSTRAINT made_some_day CHECK (isfinite(made_at)) NOT VALID,
    -- NULL: of before; anybody with the rights may settle it.
    ADD COLUMN owner name;
ALTER TABLE lockstep.instances
    ADD CONSTRAINT lease_is_short CHECK (lease_ms <= 60000),
    ADD CONSTRAINT renewed_some_day CHECK (isfinite(renewed_at) AND isfinite(started_at)),
    -- NULL: of before; it goes when its process ends.
    ADD COLUMN owner name;
ALTER TABLE lockstep.intents ALTER COLUMN owner SET DEFAULT current_user;
ALTER TABLE lockstep.instances ALTER COLUMN owner SET DEFAULT current_user;

-- A version counts once the sequence has handed it out: under a higher one every later change would be refused as delivered.
CREATE FUNCTION lockstep.guard_pending() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.version > coalesce(pg_sequence_last_value('lockstep.version_seq'::regclass), 0) THEN
        RAISE EXCEPTION 'lockstep: this version was never handed out' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'UPDATE' AND (NEW.version < OLD.version OR NEW.table_name <> OLD.table_name OR NEW.key <> OLD.key) THEN
        RAISE EXCEPTION 'lockstep: a mark names another key, or an older version' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.marked_at := least(NEW.marked_at, clock_timestamp());
    RETURN NEW;
END $$;

CREATE FUNCTION lockstep.guard_intents() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.repair_version > coalesce(pg_sequence_last_value('lockstep.version_seq'::regclass), 0) THEN
            RAISE EXCEPTION 'lockstep: this version was never handed out' USING ERRCODE = 'insufficient_privilege';
        END IF;
        NEW.owner := current_user;
        NEW.made_at := clock_timestamp();
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'lockstep: an intent is made and settled, never changed' USING ERRCODE = 'insufficient_privilege';
END $$;

-- After the statement, so that a mark that the same statement made is seen.
CREATE FUNCTION lockstep.guard_settled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.owner IS NULL OR OLD.owner = current_user
       OR OLD.xid < pg_snapshot_xmax(pg_current_snapshot()) AND pg_xact_status(OLD.xid) = 'committed'
       OR EXISTS (SELECT FROM lockstep.pending p
                  WHERE p.table_name = OLD.table_name AND p.key = OLD.key AND p.version >= OLD.repair_version) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'lockstep: an intent of another role is dropped, and its key is not marked' USING ERRCODE = 'insufficient_privilege';
END $$;

-- A lease is renewed, acknowledged and given back by the role that took it: a step counts on what it says (I6).
CREATE FUNCTION lockstep.guard_instances() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.owner <> current_user THEN
        RAISE EXCEPTION 'lockstep: this instance is registered by another role' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'lockstep: an instance keeps its number' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.owner := CASE WHEN TG_OP = 'INSERT' THEN current_user ELSE OLD.owner END;
    NEW.renewed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE FUNCTION lockstep.guard_dead_letters() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'lockstep: only the operator sets rows aside and acknowledges them' USING ERRCODE = 'insufficient_privilege';
END $$;

REVOKE ALL ON FUNCTION lockstep.guard_pending(), lockstep.guard_intents(), lockstep.guard_settled(), lockstep.guard_instances(),
    lockstep.guard_dead_letters() FROM PUBLIC;

-- Asked before a function is called: capture and the operator never call one. pg_has_role lets members of our owner and superusers by.
DO $guard$
DECLARE
    ours constant text := format('WHEN (NOT pg_catalog.pg_has_role(current_user, %s::oid, %L))',
        (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'lockstep'), 'USAGE');
    guard text[];
BEGIN
    FOREACH guard SLICE 1 IN ARRAY ARRAY[
        ['pending', 'guard_pending', 'BEFORE INSERT OR UPDATE'],
        ['intents', 'guard_intents', 'BEFORE INSERT OR UPDATE'],
        ['intents', 'guard_settled', 'AFTER DELETE'],
        ['instances', 'guard_instances', 'BEFORE INSERT OR UPDATE OR DELETE'],
        ['dead_letters', 'guard_dead_letters', 'BEFORE INSERT OR UPDATE']]
    LOOP
        EXECUTE format('CREATE TRIGGER %2$I %3$s ON lockstep.%1$I FOR EACH ROW %4$s EXECUTE FUNCTION lockstep.%2$I()',
                       guard[1], guard[2], guard[3], ours);
        EXECUTE format('ALTER TABLE lockstep.%I ENABLE ALWAYS TRIGGER %I', guard[1], guard[2]);
    END LOOP;
END $guard$;

-- Applications were granted UPDATE here, and no application acknowledges.
DO $shrink$
DECLARE
    grantee regrole;
BEGIN
    FOR grantee IN
        SELECT DISTINCT a.grantee FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.aclexplode(c.relacl) a
        WHERE c.oid = 'lockstep.dead_letters'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE UPDATE ON lockstep.dead_letters FROM %s', grantee);
    END LOOP;
END $shrink$;
