-- Items that another program gave a version of an epoch that never began: set aside until they have one of ours.
ALTER TABLE lockstep.reverse_again ADD COLUMN foreign_version boolean NOT NULL DEFAULT false;

-- Since when the feed of a table stands still before such a version, as no store shows that it is no lost history; and why.
ALTER TABLE lockstep.reverse_tables ADD COLUMN stopped_at timestamptz, ADD COLUMN stopped_why text;
