-- How far the comparison before the way back has come (P23): it is of everything that DynamoOnly has changed, and a `rollback` that
-- was broken off is given again.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.compared (
    table_name   text COLLATE "C" PRIMARY KEY,
    -- Of what: DynamoOnly since this epoch, on this server and timeline. Transaction ids of another one say nothing here.
    epoch        bigint NOT NULL,
    server       text NOT NULL,
    -- What was touched before it has been compared to its end; none in the first pass.
    since        xid8,
    -- The pass under way: from when it is, and the place up to which it has come.
    began        xid8 NOT NULL,
    after_place  text COLLATE "C",
    -- Places and keys that were not equal and are looked at again.
    unequal      jsonb NOT NULL,
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
