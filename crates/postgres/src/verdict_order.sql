-- Which comparison is the newest, by numbers and not by a clock or by which one ended last.

-- 1. A comparison begins. 2. A second one begins, finds an item that is missing, and ends. 3. The first one, which read that item while
-- it was there, ends: it was the newest verdict, and steps went through over the missing item.
-- So a comparison draws a number before its first reading, and each verdict draws one when it is recorded. A finding is answered by a
-- comparison whose first number is above the finding's second one, and by no other.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE SEQUENCE lockstep.comparison_seq AS bigint;

ALTER TABLE lockstep.verdicts
    -- Drawn before its first reading; NULL where a version that drew none recorded it.
    ADD COLUMN began   bigint,
    -- Drawn when it was recorded.
    ADD COLUMN number  bigint,
    -- Whether it found that the stores differ; NULL where the version that recorded it did not say.
    ADD COLUMN found   boolean,
    -- Whether it is of everything that the migration had then: all tables, all days, no sample.
    ADD COLUMN whole   boolean NOT NULL DEFAULT false,
    -- Whether it answers findings of comparisons that it began after: it looked at each row, and found nothing.
    ADD COLUMN answers boolean NOT NULL DEFAULT false;
-- Those from before stand in the order in which they were recorded. No gate takes one for consistent.
UPDATE lockstep.verdicts SET began = id, number = id, whole = true, answers = consistent;
SELECT pg_catalog.setval('lockstep.comparison_seq', (SELECT coalesce(pg_catalog.max(id), 0) + 1 FROM lockstep.verdicts));
ALTER TABLE lockstep.verdicts
    ALTER COLUMN number SET DEFAULT pg_catalog.nextval('lockstep.comparison_seq'),
    ALTER COLUMN number SET NOT NULL;

-- Whether a comparison began after capture was installed, or after the rows went to another file, is asked of numbers as well: a clock
-- that was set back between the two would say yes.
ALTER TABLE lockstep.tables ADD COLUMN captured_number bigint NOT NULL DEFAULT 0;

-- By a trigger: several statements set the moment, and each of them has to draw.
CREATE FUNCTION lockstep.number_capture() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.captured_at IS DISTINCT FROM OLD.captured_at THEN
        NEW.captured_number := nextval('lockstep.comparison_seq');
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION lockstep.number_capture() FROM PUBLIC;

CREATE TRIGGER number_capture BEFORE INSERT OR UPDATE OF captured_at ON lockstep.tables
    FOR EACH ROW EXECUTE FUNCTION lockstep.number_capture();
