-- Applications are told of a setting after it was committed, and no longer in the transaction that turns it: where a session listens
-- and never reads, the queue of notifications fills up, and each commit that notifies fails. No setting could be turned then.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE OR REPLACE FUNCTION lockstep.keep_settings() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM lockstep.control FOR UPDATE;
    IF TG_WHEN = 'AFTER' THEN
        UPDATE lockstep.control SET settings = coalesce((
            SELECT pg_catalog.jsonb_object_agg(s.name,
                pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until)))
            FROM lockstep.settings s), '{}');
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_settings() FROM PUBLIC;
