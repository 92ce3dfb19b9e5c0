-- Until when a request of DynamoOnly that its sender has given up may still land. One record, so that nothing crowds it out; written
-- in the transaction in which the truth comes back, by the clock of this server.
CREATE TABLE lockstep.late_requests (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- When the newest way back was, and how long after it such a request may land.
    begun_at   timestamptz NOT NULL DEFAULT '-infinity',
    lifetime_s double precision NOT NULL DEFAULT 0
);
-- What the journal of an earlier version says of the newest way back.
INSERT INTO lockstep.late_requests (begun_at, lifetime_s)
SELECT coalesce(max(j.at), '-infinity'), coalesce(max(greatest(0, extract(epoch FROM (j.detail ->> 'late_until')::timestamptz - j.at))), 0)
FROM lockstep.journal j WHERE j.kind = 'done' AND j.detail ->> 'late_until' IS NOT NULL;
