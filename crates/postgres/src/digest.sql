-- Keys of any length. These tables were keyed by the text of the key itself, and a btree holds 2,704 bytes of it: where a key
-- column was longer, the application's own UPDATE failed as soon as its row was to be marked. From here on they are keyed by a
-- digest of the key, which stays beside it. `digest_sql` in binding.rs spells the same expression and says why it is this one.

-- Writers and readers wait for us as long as we wait for one of these locks. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- Each captured table first, so that no transaction is inside a trigger function that names a key which is about to go.
DO $lock$
DECLARE
    captured text;
BEGIN
    FOR captured IN
        SELECT format('%I.%I', split_part(t.relation, '.', 1), split_part(t.relation, '.', 2)) FROM lockstep.tables t ORDER BY t.name
    LOOP
        IF to_regclass(captured) IS NOT NULL THEN
            EXECUTE 'LOCK TABLE ' || captured || ' IN SHARE ROW EXCLUSIVE MODE';
        END IF;
    END LOOP;
END $lock$;
LOCK TABLE lockstep.pending, lockstep.intents, lockstep.dead_letters, lockstep.unverified, lockstep.reverse_places,
    lockstep.reverse_again IN ACCESS EXCLUSIVE MODE;

ALTER TABLE lockstep.pending DROP CONSTRAINT pending_pkey;
CREATE UNIQUE INDEX pending_by_digest ON lockstep.pending
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));

ALTER TABLE lockstep.dead_letters DROP CONSTRAINT dead_letters_pkey;
CREATE UNIQUE INDEX dead_letters_by_digest ON lockstep.dead_letters
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));

ALTER TABLE lockstep.unverified DROP CONSTRAINT unverified_pkey;
CREATE UNIQUE INDEX unverified_by_digest ON lockstep.unverified
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));

ALTER TABLE lockstep.intents DROP CONSTRAINT intents_pkey;
DROP INDEX lockstep.intents_by_key;
CREATE UNIQUE INDEX intents_by_transaction ON lockstep.intents
    (xid, table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));
CREATE INDEX intents_by_digest ON lockstep.intents
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((key)::text, E'\\', E'\\\\'), 'escape')));

ALTER TABLE lockstep.reverse_places DROP CONSTRAINT reverse_places_pkey;
DROP INDEX lockstep.reverse_places_by_row;
CREATE UNIQUE INDEX reverse_places_by_digest ON lockstep.reverse_places
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(place, E'\\', E'\\\\'), 'escape')));
CREATE INDEX reverse_places_by_row ON lockstep.reverse_places
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((row_key)::text, E'\\', E'\\\\'), 'escape')));

ALTER TABLE lockstep.reverse_again DROP CONSTRAINT reverse_again_pkey;
CREATE UNIQUE INDEX reverse_again_by_digest ON lockstep.reverse_again
    (table_name, pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(place, E'\\', E'\\\\'), 'escape')));
-- An item that PostgreSQL can never hold as it is would be waited for without end: an operator accepts that it stays behind.
ALTER TABLE lockstep.reverse_again ADD COLUMN for_good boolean NOT NULL DEFAULT false,
    ADD COLUMN acknowledged_at timestamptz, ADD COLUMN acknowledged_by text;

-- Without a primary key a publication of all tables would refuse our deletions, and with them the writes of applications.
ALTER TABLE lockstep.pending REPLICA IDENTITY FULL;
ALTER TABLE lockstep.dead_letters REPLICA IDENTITY FULL;
ALTER TABLE lockstep.unverified REPLICA IDENTITY FULL;
ALTER TABLE lockstep.intents REPLICA IDENTITY FULL;
ALTER TABLE lockstep.reverse_places REPLICA IDENTITY FULL;
ALTER TABLE lockstep.reverse_again REPLICA IDENTITY FULL;

-- The functions that are there name the old keys, and each write of an application runs one.
DO $rename$
DECLARE
    made regprocedure;
    body text;
    digest constant text :=
        $$pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((%s)::text, E'\\', E'\\\\'), 'escape'))$$;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prosrc ~ 'ON CONFLICT \(table_name, key\)|p\.key = lockstep_(old_)?key::jsonb'
    LOOP
        body := pg_get_functiondef(made);
        body := replace(body, 'ON CONFLICT (table_name, key)', 'ON CONFLICT (table_name, ' || replace(digest, '%s', 'key') || ')');
        body := replace(body, 'p.key = lockstep_key::jsonb',
                        replace(digest, '%s', 'p.key') || ' = ' || replace(digest, '%s', 'lockstep_key::jsonb'));
        body := replace(body, 'p.key = lockstep_old_key::jsonb',
                        replace(digest, '%s', 'p.key') || ' = ' || replace(digest, '%s', 'lockstep_old_key::jsonb'));
        EXECUTE body;
    END LOOP;
END $rename$;
