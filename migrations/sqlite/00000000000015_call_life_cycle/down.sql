ALTER TABLE call_participants DROP COLUMN barred;
ALTER TABLE call_participants DROP COLUMN decline_reason;
ALTER TABLE call_participants DROP COLUMN feed_id;
DROP INDEX calls_changed;
ALTER TABLE calls DROP COLUMN host_id;
