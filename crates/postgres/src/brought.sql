-- What logical replication brings to a copy is marked where it comes from.

-- 1. A whole database is replicated: FOR ALL TABLES, Blue/Green, an upgrade by logical replication. 2. A row changes, and arrives at the subscriber with the
-- mark that the publisher's trigger made. 3. The subscriber's own trigger has made that mark already: its apply worker ends with a duplicate key, for ever, and
-- the publisher keeps WAL until its disk is full.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- Oid of lockstep.control in the database that all of this is of. Failovers, renames and upgrades in place leave it as it is, and a dump that is restored has
-- another one. Not the server's system identifier: not every service tells it, a snapshot keeps it, and an upgrade in place changes it.
ALTER TABLE lockstep.history ADD COLUMN installed_as oid;
UPDATE lockstep.history SET installed_as = 'lockstep.control'::pg_catalog.regclass::oid;

-- Whether this session is a worker of logical replication in a copy: its subscription brings marks as well, or this is not the database that marks are for. An
-- original may subscribe to other tables, and what it is brought is marked there as every write is. Any session may say that it is a replica; a worker is known
-- by the server, to each role.
CREATE FUNCTION lockstep.is_brought() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_stat_get_subscription(NULL) w
        WHERE w.pid = pg_backend_pid() AND (
            EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srsubid = w.subid AND r.srrelid = 'lockstep.pending'::regclass)
            OR NOT EXISTS (SELECT FROM lockstep.history h WHERE coalesce(h.installed_as = 'lockstep.control'::regclass, true))))
$$;
REVOKE ALL ON FUNCTION lockstep.is_brought() FROM PUBLIC;

-- As it was, and not for what comes with the note that it makes.
CREATE OR REPLACE FUNCTION lockstep.note_cured() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_RELID <> 'lockstep.dead_letters'::regclass THEN
        RAISE EXCEPTION 'lockstep: note_cured is of lockstep.dead_letters, not of %', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        IF lockstep.is_brought() THEN RETURN NULL; END IF;
    END IF;
    IF EXISTS (SELECT FROM lockstep.passes p WHERE p.noted_until > clock_timestamp()) THEN
        INSERT INTO lockstep.unverified AS u (table_name, key, pass, noted)
        SELECT OLD.table_name, OLD.key, p.number, pg_current_xact_id() FROM lockstep.passes p
        ON CONFLICT (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape'))) DO UPDATE SET pass = greatest(u.pass, excluded.pass), noted = excluded.noted
        WHERE u.pass < excluded.pass OR u.noted <> excluded.noted;
    ELSE
        DELETE FROM lockstep.verified;
    END IF;
    RETURN NULL;
END $$;
