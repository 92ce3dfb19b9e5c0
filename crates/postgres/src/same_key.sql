-- A key is what it prints, in every guard as in every index.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. A key is pending, `[1]`. 2. An application's role renames the mark to `[1.0]`, which is equal to it as a document, and takes it out. 3. The
-- note of what went is of `[1.0]`, which is no row's, and of `[1]` there is none: its item is old, no relay delivers it, and incremental
-- comparisons look at a key that nothing is under.
CREATE OR REPLACE FUNCTION lockstep.guard_pending() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.version > coalesce(pg_sequence_last_value('lockstep.version_seq'::regclass), 0) THEN
        RAISE EXCEPTION 'lockstep: this version was never handed out' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'UPDATE'
       AND (NEW.version < OLD.version OR NEW.table_name <> OLD.table_name OR NEW.key::text <> OLD.key::text) THEN
        RAISE EXCEPTION 'lockstep: a mark names another key, or an older version' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.marked_at := greatest(least(NEW.marked_at, clock_timestamp()), '2000-01-01 00:00:00+00');
    RETURN NEW;
END $$;

-- 1. A strict write of `[1]` is rolled back, and its item stays as no commit left it. 2. Another role marks `[1.0]`, and drops the intent of
-- `[1]`, as its key seems to be marked. 3. No sweep marks `[1]`, and no relay puts the truth back.
CREATE OR REPLACE FUNCTION lockstep.guard_settled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.owner IS NULL OR OLD.owner = current_user
       OR OLD.xid < pg_snapshot_xmax(pg_current_snapshot()) AND pg_xact_status(OLD.xid) = 'committed'
       OR EXISTS (SELECT FROM lockstep.pending p
                  WHERE p.table_name = OLD.table_name
                      AND pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((p.key)::text, E'\\', E'\\\\'), 'escape'))
                        = pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((OLD.key)::text, E'\\', E'\\\\'), 'escape'))
                      AND p.version >= OLD.repair_version) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'lockstep: an intent of another role is dropped, and its key is not marked' USING ERRCODE = 'insufficient_privilege';
END $$;

-- Where a mark may have been renamed, nothing says what it was called before: the next comparison reads everything.
DELETE FROM lockstep.verified v WHERE EXISTS (
    SELECT FROM lockstep.unverified u WHERE u.table_name = v.table_name AND u.key::text ~ '[0-9]\.[0-9]*0[],]'
    UNION ALL
    SELECT FROM lockstep.pending p WHERE p.table_name = v.table_name AND p.key::text ~ '[0-9]\.[0-9]*0[],]');
