-- A lease acknowledges no phase that has not begun.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. A role registers an instance that has acknowledged epoch 2^62. 2. No step waits for it any more, whichever phase it serves by. So what
-- it says is bounded by what the control record says. That is no refusal: 1. The truth is on its way back, which DynamoDB says and PostgreSQL
-- does not yet. 2. An instance renews in PostgreSQL, and serves by nothing older than the epoch of DynamoDB. 3. Refused, it would be fenced
-- until the step is over. It says so again with each renewal, and is believed once PostgreSQL has begun that epoch.
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
    IF NEW.epoch IS NOT NULL THEN
        NEW.epoch := least(NEW.epoch, (SELECT c.epoch FROM lockstep.control c));
    END IF;
    NEW.owner := CASE WHEN TG_OP = 'INSERT' THEN current_user ELSE OLD.owner END;
    NEW.started_at := greatest(least(NEW.started_at, clock_timestamp()), '2000-01-01 00:00:00+00');
    NEW.renewed_at := clock_timestamp();
    RETURN NEW;
END $$;

UPDATE lockstep.instances SET epoch = (SELECT c.epoch FROM lockstep.control c) WHERE epoch > (SELECT c.epoch FROM lockstep.control c);
