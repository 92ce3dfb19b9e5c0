-- Numbers that a source which was set back does not hand out again, and which of them it has handed out.

-- 1. A comparison draws number 57. 2. PostgreSQL is set back, and its sequence with it. 3. An item is found missing, and that is recorded
-- under number 45. 4. The comparison of the time that is lost ends: it began after 45, so it answered that finding, and steps went through.
-- So the last twenty bits of a number are drawn by chance, and a comparison counts where the number that it began with is here.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.begun_comparisons (
    number bigint PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Above every number that was drawn before this.
ALTER TABLE lockstep.verdicts ALTER COLUMN number
    SET DEFAULT (pg_catalog.nextval('lockstep.comparison_seq') << 20) + pg_catalog.floor(pg_catalog.random() * 1048576)::bigint;

CREATE OR REPLACE FUNCTION lockstep.number_capture() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.captured_at IS DISTINCT FROM OLD.captured_at THEN
        NEW.captured_number := (nextval('lockstep.comparison_seq') << 20) + floor(random() * 1048576)::bigint;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION lockstep.number_capture() FROM PUBLIC;
