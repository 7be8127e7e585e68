DROP TABLE removals;
CREATE INDEX notifications_unread ON notifications (organization_id, user_id, id) WHERE read_at IS NULL;
DROP INDEX notifications_read;
DROP INDEX notifications_created;
DROP INDEX members_left;
ALTER TABLE chats DROP COLUMN changed_at;
