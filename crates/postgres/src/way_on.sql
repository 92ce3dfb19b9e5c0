-- What was delivered is noted until a moment of this server's clock. A clock that is set forward past it ends the notes, and one that
-- is set back afterwards hides that they ended: an incremental pass would go on from a full one over what was not noted. So with the
-- first delivery that is not noted, every full pass is forgotten.
CREATE OR REPLACE FUNCTION lockstep.note_delivered() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.pending'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_delivered is of lockstep.pending, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM lockstep.passes p WHERE p.noted_until > clock_timestamp()) THEN
        INSERT INTO lockstep.unverified AS u (table_name, key, pass)
        SELECT g.table_name, g.key, p.number FROM gone g CROSS JOIN lockstep.passes p
        -- A key that changes all the time is noted once a pass.
        ON CONFLICT (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape'))) DO UPDATE SET pass = excluded.pass WHERE u.pass < excluded.pass;
    ELSIF EXISTS (SELECT FROM lockstep.verified) AND EXISTS (SELECT FROM gone) THEN
        DELETE FROM lockstep.verified;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION lockstep.note_delivered() FROM PUBLIC;
