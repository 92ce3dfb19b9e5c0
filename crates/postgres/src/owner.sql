-- An identity of the migration. The control table in DynamoDB carries it too, so that the record of another migration, made for another
-- database under the same name, is not taken for this one's.

-- Every write transaction reads this table, and waits for us as long as we wait. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.control ADD COLUMN migration_id text NOT NULL
    DEFAULT pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '');
