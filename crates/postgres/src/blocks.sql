-- Ranges of blocks (R55), for tables whose rows do not lie in the order of their keys.

-- A wait that is over is tried again from outside.
SET LOCAL lock_timeout = '300ms';

-- `file` names the file that the blocks are of; without it the range is of keys. `lower` and `watermark` are numbers of blocks then: the
-- first one, and the first that is not acknowledged. `until_block` is the first block after the range.
ALTER TABLE lockstep.ranges
    ADD COLUMN file text,
    ADD COLUMN until_block bigint;

-- 1. A worker of an earlier version is at work, or stays for more. 2. A plan of blocks is made. 3. It takes a range, and takes numbers of
-- blocks for keys: what it calls done was not read. With an empty array for a bound its statement is an error, whatever the key is.
ALTER TABLE lockstep.ranges ADD CONSTRAINT ranges_of_blocks CHECK (
    (file IS NULL AND until_block IS NULL)
    OR (file IS NOT NULL AND until_block IS NOT NULL AND lower IS NOT NULL AND upper IS NOT DISTINCT FROM '{}'::text[]));
