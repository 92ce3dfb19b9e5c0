-- A source that was set back and did not notice meets it here: DynamoDB refuses a change as older than what it holds, and what it
-- holds was never marked here. The change stays pending; this says so to every process. One a table is enough.
CREATE TABLE lockstep.contradicted (
    table_name text COLLATE "C" PRIMARY KEY,
    key        jsonb NOT NULL,
    -- The version of the change, and the one that DynamoDB holds.
    version    bigint NOT NULL,
    seen       bigint NOT NULL,
    -- A new epoch is above all that was seen before it.
    epoch      bigint NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The epoch that was begun when the source was last found to have lost history: what DynamoDB holds of an earlier one may be of
-- the time that is lost.
ALTER TABLE lockstep.history ADD COLUMN lost_before bigint NOT NULL DEFAULT 0;
