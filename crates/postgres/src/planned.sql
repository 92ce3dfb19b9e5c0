-- What the history of each table was reckoned to take when its copying began (R50), to be held against what it
-- took.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.planned (
    table_name   text COLLATE "C" PRIMARY KEY,
    -- By this server's clock; the copying began then.
    planned_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    rows         float8 NOT NULL,
    write_units  float8 NOT NULL,
    -- Nineteen times of twenty the true number is no further away than this.
    units_band   float8 NOT NULL,
    seconds      float8 NOT NULL,
    -- What the counters showed then: one plan may follow another, and counters are never set back.
    rows_before  bigint NOT NULL,
    units_before bigint NOT NULL,
    -- When its last range came to its end.
    ended_at     timestamptz
);
