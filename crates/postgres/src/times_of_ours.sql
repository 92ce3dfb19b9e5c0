-- A time that an application's role writes is one that every reader can say.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. An application's role registers an instance that started in the year 294276, which is finite. 2. Programs hold times of fewer
-- years than PostgreSQL. 3. Every command of an operator ended where it read the instances, `rollback` included, and the daemon at
-- each start. So no time of a role's is later than now, or earlier than PostgreSQL counts from.
CREATE OR REPLACE FUNCTION lockstep.guard_instances() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.owner <> current_user THEN
        RAISE EXCEPTION 'lockstep: this instance is registered by another role' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'lockstep: an instance keeps its number' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.owner := CASE WHEN TG_OP = 'INSERT' THEN current_user ELSE OLD.owner END;
    NEW.started_at := greatest(least(NEW.started_at, clock_timestamp()), '2000-01-01 00:00:00+00');
    NEW.renewed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION lockstep.guard_pending() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.version > coalesce(pg_sequence_last_value('lockstep.version_seq'::regclass), 0) THEN
        RAISE EXCEPTION 'lockstep: this version was never handed out' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF TG_OP = 'UPDATE' AND (NEW.version < OLD.version OR NEW.table_name <> OLD.table_name OR NEW.key <> OLD.key) THEN
        RAISE EXCEPTION 'lockstep: a mark names another key, or an older version' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.marked_at := greatest(least(NEW.marked_at, clock_timestamp()), '2000-01-01 00:00:00+00');
    RETURN NEW;
END $$;

UPDATE lockstep.instances SET
    started_at = greatest(least(started_at, clock_timestamp()), '2000-01-01 00:00:00+00'),
    renewed_at = greatest(least(renewed_at, clock_timestamp()), '2000-01-01 00:00:00+00')
WHERE greatest(started_at, renewed_at) > clock_timestamp() OR least(started_at, renewed_at) < '2000-01-01 00:00:00+00';
UPDATE lockstep.pending SET marked_at = '2000-01-01 00:00:00+00' WHERE marked_at < '2000-01-01 00:00:00+00';
