DROP TABLE removals;
DROP INDEX notifications_read;
DROP INDEX notifications_created;
DROP INDEX members_left;
ALTER TABLE chats DROP COLUMN changed_at;
