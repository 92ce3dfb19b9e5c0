-- One comparison of a table by many processes (R53): which piece each one reads, and what they hand to the one that gives the verdict.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE lockstep.comparisons (
    -- Of two at once each would wait for workers that are at the other's.
    table_name  text COLLATE "C" PRIMARY KEY,
    -- Chosen by chance by the process that leads, another one for each comparison.
    run         bigint NOT NULL UNIQUE,
    name        text NOT NULL,
    -- What a process must share to take part: version, shape, ids, seed. Of no row.
    terms       jsonb NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- By this server's clock, and compared with this server's clock only.
    lease_until timestamptz NOT NULL,
    -- How long a lease is. One that ends later than that was given before this server's clock was set back,
    -- and is over: its leader may have been gone for long.
    lease       interval NOT NULL,
    -- What the leader wants of each process that has read a piece; a number of its own for each wish.
    ask         integer NOT NULL DEFAULT 0,
    asked       text NOT NULL DEFAULT '',
    -- For each bucket whether its entries are wanted, a bit each.
    wanted      bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE lockstep.comparison_pieces (
    run         bigint NOT NULL REFERENCES lockstep.comparisons (run) ON DELETE CASCADE,
    -- 'source': rows in the order of their key. 'target': a segment of a scan.
    side        text COLLATE "C" NOT NULL,
    number      integer NOT NULL,
    after       text[],
    until       text[],
    worker      bigint REFERENCES lockstep.workers (id) ON DELETE SET NULL,
    -- One number a lease, of lockstep.lease_seq. 1. A worker has read piece 3 and is stopped. 2. Another one
    -- reads it. 3. The first one wakes: what it hands over is told apart by this number.
    token       bigint NOT NULL DEFAULT 0,
    leased_at   timestamptz,
    -- Read whole, under that lease.
    done        boolean NOT NULL DEFAULT false,
    counted     jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, side, number)
);

-- What a worker hands over for one wish. It counts once `comparison_answered` has the wish and the worker.
CREATE TABLE lockstep.comparison_answers (
    run         bigint NOT NULL REFERENCES lockstep.comparisons (run) ON DELETE CASCADE,
    ask         integer NOT NULL,
    side        text COLLATE "C" NOT NULL,
    -- The part of the keys that it is of.
    part        integer NOT NULL,
    worker      bigint NOT NULL,
    number      integer NOT NULL,
    body        bytea NOT NULL,
    PRIMARY KEY (run, ask, side, part, worker, number)
);

CREATE TABLE lockstep.comparison_answered (
    run         bigint NOT NULL REFERENCES lockstep.comparisons (run) ON DELETE CASCADE,
    ask         integer NOT NULL,
    worker      bigint NOT NULL,
    -- The leases of the pieces that the answer is made of.
    tokens      bigint[] NOT NULL,
    -- How many parts it has.
    parts       bigint NOT NULL,
    PRIMARY KEY (run, ask, worker)
);
