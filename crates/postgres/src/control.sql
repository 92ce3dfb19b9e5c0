-- Lockstep's own tables, in the source, where the truth is until DynamoOnly.

-- Versions. The sequence carries the epoch in its high bits; see Epoch::floor in version.rs for why it is not read from a table.
CREATE SEQUENCE lockstep.version_seq AS bigint;
SELECT setval('lockstep.version_seq', 1::bigint << 40);

-- The phase of the migration, all its tables together (I5).
CREATE TABLE lockstep.control (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    phase      text NOT NULL,
    epoch      bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO lockstep.control (phase, epoch) VALUES ('PostgresOnly', 1);

-- What was captured, and where it goes.
CREATE TABLE lockstep.tables (
    name             text PRIMARY KEY,
    relation         text NOT NULL,
    fingerprint      text NOT NULL,
    layout           text NOT NULL,
    -- The two triggers as they were installed: their oids, and the transactions that last touched their definitions.
    capture_mark     text NOT NULL,
    captured_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    target_name      text,
    -- DynamoDB's TableId: a table that was dropped and created again under the same name is another table.
    target_id        text,
    -- Set before anything but history may be written; from then on the cold load path is closed for good.
    relay_enabled_at timestamptz,
    -- A cold load under way, and until when one of its lost requests could still arrive.
    cold_open        boolean NOT NULL DEFAULT false,
    cold_unsafe_until timestamptz,
    window_start     timestamptz,
    window_end       timestamptz,
    planned_at       timestamptz,
    relayed          bigint NOT NULL DEFAULT 0
);

-- Keys whose newest state may not be in the target yet (I1): one row a key, no row image.
CREATE TABLE lockstep.pending (
    table_name text COLLATE "C" NOT NULL,
    key        jsonb NOT NULL,
    version    bigint NOT NULL,
    marked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (table_name, key)
) WITH (
    -- It churns: leave room for in-page updates, and vacuum by absolute numbers and at full speed.
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- Every intent and every outcome, append-only (R8, I9).
CREATE TABLE lockstep.journal (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text NOT NULL,
    kind   text NOT NULL CHECK (kind IN ('intent', 'done', 'undone', 'refused', 'note')),
    intent bigint REFERENCES lockstep.journal (id),
    step   text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX journal_one_outcome ON lockstep.journal (intent) WHERE intent IS NOT NULL;

CREATE FUNCTION lockstep.journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'lockstep.journal is append-only';
END $$;
CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lockstep.journal
    FOR EACH STATEMENT EXECUTE FUNCTION lockstep.journal_is_append_only();

-- Ranges of the backfill and how far each has come (I4). Bounds are primary keys as arrays of text.
CREATE TABLE lockstep.ranges (
    table_name   text COLLATE "C" NOT NULL,
    number       int NOT NULL,
    lower        text[],
    upper        text[],
    watermark    text[],
    done         boolean NOT NULL DEFAULT false,
    rows_read    bigint NOT NULL DEFAULT 0,
    rows_written bigint NOT NULL DEFAULT 0,
    rows_present bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    bytes_read   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (table_name, number)
) WITH (fillfactor = 50);

-- Rows that can never be written as they are (R13).
CREATE TABLE lockstep.dead_letters (
    table_name      text COLLATE "C" NOT NULL,
    key             jsonb NOT NULL,
    version         bigint NOT NULL,
    stage           text NOT NULL,
    reason          text NOT NULL,
    found_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts        int NOT NULL DEFAULT 1,
    acknowledged_at timestamptz,
    acknowledged_by text,
    PRIMARY KEY (table_name, key)
);

-- What validation saw, and when.
CREATE TABLE lockstep.verdicts (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    epoch      bigint NOT NULL,
    consistent boolean NOT NULL,
    report     jsonb NOT NULL
);

-- Settings that a running command picks up.
CREATE TABLE lockstep.tuning (
    singleton             boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    write_units_per_s_max bigint,
    changed_at            timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO lockstep.tuning DEFAULT VALUES;
