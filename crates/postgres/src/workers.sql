-- Many workers, one migration (R53): who is at work, which range each one holds, and what they may spend together.

-- A backfill of an older version may be at work on the ranges. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.workers (
    -- Chosen by the process. One whose lease is over never gets it back: it registers again, under another id.
    id          bigint PRIMARY KEY,
    name        text NOT NULL,
    host        text NOT NULL,
    pid         bigint NOT NULL,
    -- It holds the coordinator's lock: the next one that has the lock ends it without a wait.
    coordinator boolean NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- By this server's clock, and compared with this server's clock only.
    lease_until timestamptz NOT NULL,
    -- It has found no range to take.
    idle        boolean NOT NULL DEFAULT false,
    rows        bigint NOT NULL DEFAULT 0,
    rows_per_s  double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- One number a lease, over all ranges and plans: 1. A worker holds range 3 and is stopped. 2. The plan is made again, and another worker
-- takes the new range 3. 3. The first one wakes: by its number it is told apart.
CREATE SEQUENCE lockstep.lease_seq AS bigint;

-- The lease of a range is that of its worker. An operator who frees a range by hand deletes its worker.
ALTER TABLE lockstep.ranges
    ADD COLUMN worker bigint REFERENCES lockstep.workers (id) ON DELETE SET NULL,
    ADD COLUMN token bigint NOT NULL DEFAULT 0,
    ADD COLUMN leased_at timestamptz;
CREATE INDEX ranges_open ON lockstep.ranges (table_name) WHERE NOT done;

-- Until when the write units that workers have taken reach, at the rate that is allowed.
CREATE TABLE lockstep.budget (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    spent_until timestamptz NOT NULL DEFAULT '-infinity',
    -- At which rate the newest block was taken, and when. A moment that was reckoned at another rate, or by a
    -- clock that has been set back since, says nothing of when there are units again.
    per_s       float8,
    taken_at    timestamptz
) WITH (fillfactor = 50);
INSERT INTO lockstep.budget DEFAULT VALUES;
