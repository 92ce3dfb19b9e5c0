-- Each marker of the reverse feed that came through, and not only the newest of each shard.

-- 1. A shard splits, and DynamoDB lists one of its two children, as it does for some seconds at times. 2. Every shard that is listed has shown a
-- marker. 3. The way back went through, and what is in the child that is not listed came after it, to be overruled by old rows. Markers hash
-- over all shards, listed or not: where each of them was seen, so was every shard that took one.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.reverse_markers (
    table_name text COLLATE "C" NOT NULL,
    round      text COLLATE "C" NOT NULL,
    -- Where it was: each number of a round has a place of its own.
    place      text COLLATE "C" NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (table_name, round, place)
);
