-- The host of a call, the feeds of its participants, why users declined, and who was removed from it.

-- The user who may end the call; the last one once the call has ended.
ALTER TABLE calls ADD COLUMN host_id text NOT NULL DEFAULT '';
UPDATE calls SET host_id = started_by;
CREATE INDEX calls_changed ON calls (changed_at);

-- The feed that the participant opened last since they joined; null before the first one.
ALTER TABLE call_participants ADD COLUMN feed_id uuid;
ALTER TABLE call_participants ADD COLUMN decline_reason text;
-- True if the participant may not join the call again.
ALTER TABLE call_participants ADD COLUMN barred boolean NOT NULL DEFAULT FALSE;
