-- What a setting was laid over comes back when its time is over.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. `canary_percent` is 5 for good. 2. An operator sets it to 1 for an hour. 3. The hour is over, and every application reads by its
-- own configuration, which says 100. So a row keeps what was in force before it: value, actor, reason, and what that one keeps.
ALTER TABLE lockstep.settings ADD COLUMN former jsonb;
COMMENT ON COLUMN lockstep.settings.former IS
    'What counts again when the time of this one is over, or when what a daemon set by itself is taken back.';

CREATE OR REPLACE FUNCTION lockstep.keep_settings() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM lockstep.control FOR UPDATE;
    IF TG_WHEN = 'AFTER' THEN
        UPDATE lockstep.control SET settings = coalesce((
            SELECT pg_catalog.jsonb_object_agg(s.name,
                pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until))
                || CASE WHEN s.until IS NULL OR s.former IS NULL THEN '{}'::jsonb
                   ELSE pg_catalog.jsonb_build_object('former', s.former -> 'value') END)
            FROM lockstep.settings s), '{}');
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_settings() FROM PUBLIC;
