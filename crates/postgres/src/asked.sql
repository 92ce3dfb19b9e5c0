-- Since when DynamoDB may have been asked for an import.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- 1. A token is noted, and the process ends before it asks. 2. Every call of the next one is refused, as a
-- right is missing. A token does not say whether a job is at work, so nothing led back to writes. Its age
-- says it: a call whose signature is over cannot arrive any more, and a job that is at work has its table.
-- Tokens of before this count as noted now.
ALTER TABLE lockstep.imports ADD COLUMN asked_at timestamptz NOT NULL DEFAULT clock_timestamp();
