-- Name of the database that everything here is of, where an application can read it with the rights that it has.

-- 1. A database is copied under another name. 2. A relay, a step or an application runs on the copy, with the settings of the original. 3. It has the
-- identity of the original, so that rows of the copy are put over those of the original, and the truth of the original moves. In a database of
-- another name nothing of it happens until an operator has said which of both this is.

-- Every write transaction reads this table, and waits for us as long as we wait. A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.control ADD COLUMN database text NOT NULL DEFAULT pg_catalog.current_database();
