-- Of which version of its item a note is, so that what an operator has accepted of one state is not taken for the next one's. NULL
-- where the feed has not read the item; below 0 where the item had none.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.reverse_again ADD COLUMN version bigint;

-- What was accepted before stays accepted, where the state is known.
UPDATE lockstep.reverse_again a SET version = p.version FROM lockstep.reverse_places p
    WHERE p.table_name = a.table_name
        AND pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(p.place, E'\\', E'\\\\'), 'escape'))
          = pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace(a.place, E'\\', E'\\\\'), 'escape'));
