-- What operators turn while everything runs: a name, a value, who set it, why, and until when.
CREATE TABLE lockstep.settings (
    name text PRIMARY KEY,
    value jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    until timestamptz,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE lockstep.settings IS
    'Settings that hold for every process of the migration; one whose time is over counts for nothing.';
