-- Which transaction last changed what is known of an item: what has changed since a moment is found without a clock.
ALTER TABLE lockstep.reverse_places ADD COLUMN touched xid8 NOT NULL DEFAULT pg_current_xact_id();
