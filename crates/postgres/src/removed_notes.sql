-- Whether DynamoDB has removed the item of a note, as its stream tells: the row of before a state that PostgreSQL would not have goes
-- then. Until the stream says so, nothing tells whether another program took the item.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.reverse_again ADD COLUMN removed boolean NOT NULL DEFAULT false;
