-- History that goes in by DynamoDB's own import from S3 (R54): what has been written, and how far the job is.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- While it is set the target table does not exist, or is being made: nothing but the import may write to it. A column of this
-- table and not a row of another one: the statement that opens a table for changes waits for this row and then sees it.
ALTER TABLE lockstep.tables ADD COLUMN importing boolean NOT NULL DEFAULT false;

CREATE TABLE lockstep.imports (
    table_name   text COLLATE "C" PRIMARY KEY,
    -- writing: rows go into parts. importing: DynamoDB was asked, or is about to be. filling: the table is there, and what the job
    -- left out goes in. done.
    state        text NOT NULL CHECK (state IN ('writing', 'importing', 'filling', 'done')),
    folder       text NOT NULL,
    bucket       text NOT NULL,
    prefix       text NOT NULL,
    part_bytes   bigint NOT NULL,
    -- Before the job is asked for: a call whose answer was lost is repeated with it.
    client_token text,
    arn          text,
    outcome      jsonb,
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The manifest. A part is in it once its file is whole, in the transaction that moves the watermark of its range.
CREATE TABLE lockstep.import_parts (
    table_name   text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    items        bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (table_name, name)
);
