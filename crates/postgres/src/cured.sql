-- A dead letter that is taken out is noted like a mark that is taken out.

-- Every delivery takes out the dead letter of its key. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. A row that cannot be held is set aside, an operator accepts that, and a full pass finds nothing else.
-- 2. An application's role, which takes dead letters out with what it delivers, takes this one out and delivers nothing.
-- 3. No key has changed since, so the next incremental pass reads none, and says consistent without a word of that row.
-- A trigger of each row, and not of the statement: nearly all deliveries take none out, and cost nothing here.
CREATE FUNCTION lockstep.note_cured() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.dead_letters'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_cured is of lockstep.dead_letters, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM lockstep.passes p WHERE p.noted_until > clock_timestamp()) THEN
        INSERT INTO lockstep.unverified AS u (table_name, key, pass)
        SELECT OLD.table_name, OLD.key, p.number FROM lockstep.passes p
        ON CONFLICT (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape'))) DO UPDATE SET pass = excluded.pass WHERE u.pass < excluded.pass;
    ELSE
        DELETE FROM lockstep.verified;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION lockstep.note_cured() FROM PUBLIC;

CREATE TRIGGER note_cured AFTER DELETE ON lockstep.dead_letters FOR EACH ROW EXECUTE FUNCTION lockstep.note_cured();
ALTER TABLE lockstep.dead_letters ENABLE ALWAYS TRIGGER note_cured;
