-- Strict writes whose put may have left before their commit (I9): one row a key. It goes in the very transaction whose
-- outcome it waits for, so a row that is left and whose transaction is over means: rolled back.
CREATE TABLE lockstep.intents (
    xid            xid8 NOT NULL,
    table_name     text COLLATE "C" NOT NULL,
    key            jsonb NOT NULL,
    -- Handed out while the transaction held the row: above its put, below every later state of the key.
    repair_version bigint NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (xid, table_name, key)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX intents_by_key ON lockstep.intents (table_name, key);
