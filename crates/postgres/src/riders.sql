-- What rides along in the feed's transaction: rows that a cascade or a trigger of the application changed there, and that the
-- feed did not write. DynamoDB knows nothing of it, so their items are read again, and PostgreSQL becomes what they say.

-- Written by the capture triggers, which know source keys and no places.
CREATE TABLE lockstep.reverse_riders (
    table_name text COLLATE "C" NOT NULL,
    key        jsonb NOT NULL,
    -- Whether there was no such row before: one that DynamoDB has no item of goes again.
    made       boolean NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX reverse_riders_by_digest ON lockstep.reverse_riders
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));
ALTER TABLE lockstep.reverse_riders REPLICA IDENTITY FULL;

-- Which of the items to be read again are of such rows.
ALTER TABLE lockstep.reverse_again ADD COLUMN ridden boolean NOT NULL DEFAULT false,
    ADD COLUMN made boolean NOT NULL DEFAULT false;

-- Which table a transaction of the feed writes, and whether rows of that one may be dragged along as well: a foreign key within
-- it has an action. A feed of an older Lockstep names none.
ALTER TABLE lockstep.reverse_writers ADD COLUMN table_name text COLLATE "C", ADD COLUMN notes boolean NOT NULL DEFAULT false;

-- Refuses a row as PostgreSQL does. A row that is written as it is has its foreign keys checked by us.
CREATE FUNCTION lockstep.refuse_dangling(broken text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the row violates foreign key constraint "%"', broken USING ERRCODE = 'foreign_key_violation';
END $$;
REVOKE ALL ON FUNCTION lockstep.refuse_dangling(text) FROM PUBLIC;
