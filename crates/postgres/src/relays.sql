-- Relays beside each other, and which share of the pending keys each one delivers (R53).

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.relays (
    -- Chosen by the process. One that was taken out never gets it back: it joins again, under another id.
    id          bigint PRIMARY KEY,
    name        text NOT NULL,
    host        text NOT NULL,
    pid         bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- By this server's clock, and compared with this server's clock only.
    lease_until timestamptz NOT NULL,
    -- How long a lease is. One that ends later than that was given before this server's clock was set back,
    -- and is over: the relay may have been gone for long.
    lease       interval NOT NULL,
    -- The keys whose digest begins with two bytes of at least the lower and less than the upper bound. The
    -- shares of all rows are the whole set, and no two of them meet: the one that adds or takes out a row
    -- deals them out again in the same transaction.
    lower       integer NOT NULL DEFAULT 0,
    upper       integer NOT NULL DEFAULT 0,
    -- Another one, and a greater one, for each share that is given out.
    token       bigint NOT NULL DEFAULT 0,
    CHECK (0 <= lower AND lower <= upper AND upper <= 65536)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
