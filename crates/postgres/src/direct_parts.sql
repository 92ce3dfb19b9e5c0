-- Parts of an import that the worker which writes them puts into S3 itself: no folder of one machine has them, so any number of workers write.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE lockstep.imports ADD COLUMN direct boolean NOT NULL DEFAULT false;

-- The mark that S3 gave the content of a part. None for one in a folder.
ALTER TABLE lockstep.import_parts ADD COLUMN e_tag text;
