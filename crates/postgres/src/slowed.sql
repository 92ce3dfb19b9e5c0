-- Why a worker moves no faster, told with each sign that it gives: what moves the initial load is another process than the one that shows it.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.workers ADD COLUMN slowed_by text;
