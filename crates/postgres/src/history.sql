-- What the source remembers of itself, and what it has told each target table to remember of it. A source that was set back
-- forgets this as well; then the target's marks say so.

CREATE TABLE lockstep.history (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- System identifier and timeline that everything here was written on; NULL where the server does not tell.
    server    text,
    -- The highest version that was seen here.
    version   bigint NOT NULL DEFAULT 0
);
INSERT INTO lockstep.history DEFAULT VALUES;

CREATE TABLE lockstep.history_marks (
    table_name text COLLATE "C" PRIMARY KEY,
    -- The newest mark that may be in the target, and the newest that is.
    marking    bigint NOT NULL DEFAULT 0,
    marked     bigint NOT NULL DEFAULT 0,
    -- The version at the newest mark, and when that was.
    version    bigint NOT NULL DEFAULT 0,
    marked_at  timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
