-- Processes that hold a lease on the phase (R19). A step waits for each `live` one, so a row must be there, committed, before its
-- process reads the phase for the first time.
CREATE TABLE lockstep.instances (
    -- Chosen by the process, so that registering again after a lost reply is the same row.
    id            bigint PRIMARY KEY,
    name          text NOT NULL,
    host          text NOT NULL,
    pid           bigint NOT NULL,
    started_at    timestamptz NOT NULL,
    -- The phase change after which it serves nothing older; NULL until the first renewal has told it the phase.
    epoch         bigint,
    lease_ms      bigint NOT NULL CHECK (lease_ms > 0),
    -- Counts renewals: whoever waits compares it by his own clock, and no two clocks are compared.
    renewals      bigint NOT NULL DEFAULT 0,
    renewed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- `expired`: a step waited its lease out. Its process serves nothing until it has registered again.
    state         text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'expired'))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
