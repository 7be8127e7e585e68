ALTER TABLE notifications DROP COLUMN call_id;
DROP TABLE call_signals;
DROP TABLE call_participants;
DROP TABLE calls;
