-- What operators turn, where every process of the migration reads it with the rights that it has already; and what applications have
-- counted, where the daemon and the gates read it.

-- Every write transaction reads `control`, and every application renews its lease. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.control ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

CREATE FUNCTION lockstep.keep_settings() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE lockstep.control SET settings = coalesce((
        SELECT pg_catalog.jsonb_object_agg(s.name, pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until)))
        FROM lockstep.settings s), '{}');
    PERFORM pg_catalog.pg_notify('lockstep_phase', 'settings');
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_settings() FROM PUBLIC;

CREATE TRIGGER keep_settings AFTER INSERT OR DELETE OR UPDATE ON lockstep.settings
    FOR EACH STATEMENT EXECUTE FUNCTION lockstep.keep_settings();

UPDATE lockstep.control SET settings = coalesce((
    SELECT pg_catalog.jsonb_object_agg(s.name, pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until)))
    FROM lockstep.settings s), '{}');

CREATE TABLE lockstep.counts (
    since timestamptz NOT NULL,
    epoch bigint NOT NULL,
    table_name text NOT NULL,
    name text NOT NULL,
    count bigint NOT NULL,
    newest_at timestamptz NOT NULL,
    PRIMARY KEY (since, epoch, table_name, name)
);
COMMENT ON TABLE lockstep.counts IS
    'What applications and the daemon counted, by minute (what is spent, by day): shadow reads, writes, coordinated operations.';

-- An application may change its own row of `instances` and nothing else of ours, so it reports there, and what it reports is
-- taken over with the rights of who owns the schema.
ALTER TABLE lockstep.instances ADD COLUMN report jsonb;

CREATE FUNCTION lockstep.take_report() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO lockstep.counts AS c (since, epoch, table_name, name, count, newest_at)
    SELECT pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()), coalesce(NEW.epoch, 0), pg_catalog.left(r.table_name, 100),
        pg_catalog.left(r.name, 40), pg_catalog.sum(r.count)::bigint, pg_catalog.clock_timestamp()
    FROM pg_catalog.jsonb_to_recordset(NEW.report) AS r (table_name text, name text, count integer)
    WHERE r.table_name IS NOT NULL AND r.count > 0
        AND r.name IN ('shadow.agree', 'shadow.differ', 'shadow.not_comparable', 'shadow.failed', 'write.committed', 'write.failed',
            'write.unknown', 'operation.begun', 'operation.committed', 'operation.failed', 'operation.given_up', 'operation.unknown')
    GROUP BY 3, 4 ORDER BY 3, 4
    ON CONFLICT (since, epoch, table_name, name) DO UPDATE SET count = c.count + excluded.count, newest_at = excluded.newest_at;
    NEW.report := NULL;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION lockstep.take_report() FROM PUBLIC;

CREATE TRIGGER take_report BEFORE UPDATE OF report ON lockstep.instances
    FOR EACH ROW WHEN (NEW.report IS NOT NULL) EXECUTE FUNCTION lockstep.take_report();
