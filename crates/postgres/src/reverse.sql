-- The way back: what the reverse feed has read of the target's streams, and what it has made of it.

-- One row for each table that is fed.
CREATE TABLE lockstep.reverse_tables (
    table_name    text COLLATE "C" PRIMARY KEY,
    -- Which stream: one that was ended and begun again is another, with none of the positions below.
    stream        text NOT NULL,
    begun_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied       bigint NOT NULL DEFAULT 0,
    -- Items that expired; their rows stay.
    expired       bigint NOT NULL DEFAULT 0,
    -- Changes that did not come through the guard, and why the last of them did not.
    foreign_count bigint NOT NULL DEFAULT 0,
    foreign_why   text,
    -- Records that went before they were read: only a reverse backfill knows what they said.
    lost_at       timestamptz,
    lost_why      text
);

-- How far each shard was read. Saved in the transaction that changes the rows.
CREATE TABLE lockstep.reverse_shards (
    table_name text COLLATE "C" NOT NULL,
    shard      text COLLATE "C" NOT NULL,
    position   text,
    finished   boolean NOT NULL DEFAULT false,
    -- The round of the newest marker that came through.
    marker     text,
    -- When the newest record that was taken was made, and when the stream last had no more.
    newest_at  timestamptz,
    empty_at   timestamptz,
    PRIMARY KEY (table_name, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- The newest version of each item that was taken (I2 on the way back), and which row it is of.
CREATE TABLE lockstep.reverse_places (
    table_name text COLLATE "C" NOT NULL,
    place      text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    key        jsonb NOT NULL,
    row_key    jsonb NOT NULL,
    live       boolean NOT NULL,
    PRIMARY KEY (table_name, place)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX reverse_places_by_row ON lockstep.reverse_places (table_name, row_key);

-- Items to be read from the target once more: PostgreSQL would not have the row yet, or another item of it may be newer.
CREATE TABLE lockstep.reverse_again (
    table_name text COLLATE "C" NOT NULL,
    place      text COLLATE "C" NOT NULL,
    key        jsonb,
    why        text NOT NULL,
    tries      bigint NOT NULL DEFAULT 0,
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (table_name, place)
);

-- Transactions of the feed while they run: the trigger lets them write in DynamoOnly. No other session ever sees a row here.
CREATE TABLE lockstep.reverse_writers (
    xid xid8 PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Every epoch in which the target was the truth, written by the flip that began it: what the stream has of them may be news.
CREATE TABLE lockstep.target_epochs (
    epoch bigint PRIMARY KEY
);

-- The newest epoch that was to begin as DynamoOnly, also by a flip that was rolled back. A sequence, because it has no snapshot.
CREATE SEQUENCE lockstep.frozen_seq AS bigint MINVALUE 0 START 0;

-- Which of our trigger functions a table has.
ALTER TABLE lockstep.tables ADD COLUMN capture_version int NOT NULL DEFAULT 1;

CREATE FUNCTION lockstep.refuse_frozen(operation text, frozen text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moved text;
    target text;
    since record;
BEGIN
    SELECT string_agg(t.name, ', ' ORDER BY t.name), max(t.target_name) FILTER (WHERE t.relation = frozen)
        INTO moved, target FROM lockstep.tables t;
    SELECT c.epoch, c.changed_at INTO since FROM lockstep.control c;
    RAISE EXCEPTION 'lockstep: % of % is refused: the migration of % is in phase DynamoOnly (epoch %, since %), and DynamoDB table % is the truth',
        operation, frozen, moved, since.epoch, date_trunc('second', since.changed_at), target
        USING HINT = 'Write through the Lockstep store of an application. To write with SQL again, go back to HybridRead first '
                  || '(cargo xtask rollback): everything written meanwhile comes along.',
              ERRCODE = 'object_not_in_prerequisite_state';
END $$;
REVOKE ALL ON FUNCTION lockstep.refuse_frozen(text, text) FROM PUBLIC;
