-- What operators turn, where every process of the migration reads it with the rights that it has already; and what applications have
-- counted, where the daemon and the gates read it.

-- Every write transaction reads `control`, and every application renews its lease. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.control ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';

-- 1. Two settings are turned at once. 2. The UPDATE of the second one waits for the first one's transaction,
-- and has looked at the settings before it began to wait. 3. It writes them without the first one. So the
-- lock is taken by a statement of its own, and the next statement sees what was committed meanwhile. It is
-- taken before the settings are touched as well, so that every change of them takes its locks in one order.
CREATE FUNCTION lockstep.keep_settings() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM lockstep.control FOR UPDATE;
    IF TG_WHEN = 'AFTER' THEN
        UPDATE lockstep.control SET settings = coalesce((
            SELECT pg_catalog.jsonb_object_agg(s.name,
                pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until)))
            FROM lockstep.settings s), '{}');
        PERFORM pg_catalog.pg_notify('lockstep_phase', 'settings');
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION lockstep.keep_settings() FROM PUBLIC;

CREATE TRIGGER begin_settings BEFORE INSERT OR DELETE OR UPDATE ON lockstep.settings
    FOR EACH STATEMENT EXECUTE FUNCTION lockstep.keep_settings();
CREATE TRIGGER keep_settings AFTER INSERT OR DELETE OR UPDATE ON lockstep.settings
    FOR EACH STATEMENT EXECUTE FUNCTION lockstep.keep_settings();

-- The table has been there for longer than the copy of it.
UPDATE lockstep.control SET settings = coalesce((
    SELECT pg_catalog.jsonb_object_agg(s.name, pg_catalog.jsonb_build_object('value', s.value, 'until', extract(epoch FROM s.until)))
    FROM lockstep.settings s), '{}');

CREATE TABLE lockstep.counts (
    since timestamptz NOT NULL,
    epoch bigint NOT NULL,
    table_name text NOT NULL,
    name text NOT NULL,
    -- The role whose application reported it; empty for what the daemon and the commands count. 1. A role
    -- reports in a transaction that it leaves open. 2. Reports of every other role wait for its row, and what
    -- they have seen never arrives. So each role has rows of its own.
    owner name NOT NULL DEFAULT '',
    count bigint NOT NULL,
    newest_at timestamptz NOT NULL,
    PRIMARY KEY (since, epoch, table_name, name, owner)
);
COMMENT ON TABLE lockstep.counts IS
    'What applications and the daemon counted, by minute (what is spent, by day): shadow reads, writes, coordinated operations.';

-- An application may change its own row of `instances` and nothing else of ours, so it reports there, and what it reports is
-- taken over with the rights of who owns the schema.
--
-- Which table, which epoch and how often is the role's choice, so none of it is taken as it comes: a role
-- that makes up tables and epochs would make rows without end, and one that reports the greatest number there
-- is would have the sums of the readers overflow, and the gates with them. `guard_instances` has made `owner`
-- what it is before this is fired, for triggers fire in the order of their names; a row of before it has
-- none. A report that waits for another one of its own role fails after a fifth of a second, so that no lease
-- waits for it, and is told next time.
ALTER TABLE lockstep.instances ADD COLUMN report jsonb;

CREATE FUNCTION lockstep.take_report() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
BEGIN
    INSERT INTO lockstep.counts AS c (since, epoch, table_name, name, owner, count, newest_at)
    SELECT pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()),
        greatest(0, least(coalesce(NEW.epoch, 0), (SELECT k.epoch FROM lockstep.control k))),
        r.table_name, r.name, coalesce(NEW.owner, session_user),
        least(pg_catalog.sum(least(r.count, 1000000)), 1000000), pg_catalog.clock_timestamp()
    FROM pg_catalog.jsonb_to_recordset(NEW.report) AS r (table_name text, name text, count integer)
    WHERE r.count > 0
        AND (r.table_name = '' OR EXISTS (SELECT FROM lockstep.tables t WHERE t.name = r.table_name))
        AND r.name IN ('shadow.agree', 'shadow.differ', 'shadow.not_comparable', 'shadow.failed',
            'write.committed', 'write.failed', 'write.unknown', 'operation.begun', 'operation.committed',
            'operation.failed', 'operation.given_up', 'operation.unknown')
    -- Instances of one role take the locks of their rows in one order.
    GROUP BY r.table_name, r.name ORDER BY r.table_name, r.name
    ON CONFLICT (since, epoch, table_name, name, owner) DO UPDATE
        SET count = least(c.count + excluded.count, 1000000000), newest_at = excluded.newest_at;
    NEW.report := NULL;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION lockstep.take_report() FROM PUBLIC;

CREATE TRIGGER take_report BEFORE UPDATE OF report ON lockstep.instances
    FOR EACH ROW WHEN (NEW.report IS NOT NULL) EXECUTE FUNCTION lockstep.take_report();
