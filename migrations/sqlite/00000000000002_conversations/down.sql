DROP TRIGGER messages_forget_words;
DROP TABLE message_words;
DROP TABLE blocked_words;
DROP TABLE reports;
DROP TABLE notifications;
DROP TABLE votes;
DROP TABLE mentions;

DROP INDEX messages_to_everyone;
DROP INDEX messages_pinned;
DROP INDEX messages_threads;
DROP INDEX messages_timeline;
ALTER TABLE messages DROP COLUMN pinned_by;
ALTER TABLE messages DROP COLUMN pinned_at;
ALTER TABLE messages DROP COLUMN content;
ALTER TABLE messages DROP COLUMN mentions_everyone;
ALTER TABLE messages DROP COLUMN reply_count;
ALTER TABLE messages DROP COLUMN in_timeline;
ALTER TABLE messages DROP COLUMN thread_root_seq;

ALTER TABLE members DROP COLUMN shown_at;
ALTER TABLE members DROP COLUMN moved_at;
ALTER TABLE members DROP COLUMN draft;
ALTER TABLE members DROP COLUMN marked_unread;
ALTER TABLE members DROP COLUMN pinned;
ALTER TABLE members DROP COLUMN notification_level;
ALTER TABLE members DROP COLUMN muted_until;
ALTER TABLE members DROP COLUMN read_privately;
ALTER TABLE members DROP COLUMN last_delivered_seq;
ALTER TABLE members DROP COLUMN silenced_until;

DROP INDEX chats_resource;
ALTER TABLE chats DROP COLUMN resource_id;
ALTER TABLE chats DROP COLUMN resource_type;
ALTER TABLE chats DROP COLUMN archived_at;
