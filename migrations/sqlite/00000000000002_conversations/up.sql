-- Threads, pins, mentions, polls, notifications, reports and search. The foundation describes the column types.

ALTER TABLE chats ADD COLUMN archived_at INTEGER;
-- The object of the host application that the chat belongs to; an object has one chat at most.
ALTER TABLE chats ADD COLUMN resource_type TEXT;
ALTER TABLE chats ADD COLUMN resource_id TEXT;
CREATE UNIQUE INDEX chats_resource ON chats (organization_id, resource_type, resource_id)
    WHERE resource_id IS NOT NULL;

ALTER TABLE members ADD COLUMN silenced_until INTEGER;
ALTER TABLE members ADD COLUMN last_delivered_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_privately INTEGER NOT NULL DEFAULT FALSE;
ALTER TABLE members ADD COLUMN muted_until INTEGER;
ALTER TABLE members ADD COLUMN notification_level TEXT NOT NULL DEFAULT 'all';
ALTER TABLE members ADD COLUMN pinned INTEGER NOT NULL DEFAULT FALSE;
ALTER TABLE members ADD COLUMN marked_unread INTEGER NOT NULL DEFAULT FALSE;
ALTER TABLE members ADD COLUMN draft TEXT;
-- When the row last changed without a version of the chat: its read and delivered positions and the
-- member's preferences.
ALTER TABLE members ADD COLUMN moved_at INTEGER;
-- When the row last changed in that way with an effect that other members may see.
ALTER TABLE members ADD COLUMN shown_at INTEGER;

ALTER TABLE messages ADD COLUMN thread_root_seq INTEGER;
-- Whether the message is in the chat's timeline; replies usually appear only in their thread.
ALTER TABLE messages ADD COLUMN in_timeline INTEGER NOT NULL DEFAULT TRUE;
ALTER TABLE messages ADD COLUMN reply_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN mentions_everyone INTEGER NOT NULL DEFAULT FALSE;
-- Everything but the text: a location, a poll, a system message, the origin of a forwarded message.
ALTER TABLE messages ADD COLUMN content BLOB;
ALTER TABLE messages ADD COLUMN pinned_at INTEGER;
ALTER TABLE messages ADD COLUMN pinned_by TEXT;
CREATE INDEX messages_timeline ON messages (chat_id, seq) WHERE in_timeline;
CREATE INDEX messages_threads ON messages (chat_id, thread_root_seq, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX messages_pinned ON messages (chat_id, pinned_at, seq) WHERE pinned_at IS NOT NULL;
CREATE INDEX messages_to_everyone ON messages (chat_id, seq) WHERE mentions_everyone;

CREATE TABLE mentions (
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (chat_id, user_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX mentions_by_message ON mentions (chat_id, seq);

CREATE TABLE votes (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    -- The index of the option in the poll.
    option INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, option, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Ids ascend with time, so descending ids are newest first.
CREATE TABLE notifications (
    id BLOB NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    chat_id BLOB NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq INTEGER,
    actor_id TEXT,
    created_at INTEGER NOT NULL,
    read_at INTEGER
) STRICT;
CREATE INDEX notifications_by_user ON notifications (organization_id, user_id, id);
CREATE INDEX notifications_unread ON notifications (organization_id, user_id, id) WHERE read_at IS NULL;
CREATE INDEX notifications_unread_of_chat ON notifications (chat_id, user_id) WHERE read_at IS NULL;
CREATE INDEX notifications_by_message ON notifications (chat_id, seq, user_id);

CREATE TABLE reports (
    id BLOB NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    reporter_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The text of the message when it was reported; it may have been edited or deleted since.
    text TEXT,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolved_by TEXT,
    resolution TEXT,
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT;
-- A user can report a message once.
CREATE UNIQUE INDEX reports_by_message ON reports (chat_id, seq, reporter_id);
CREATE INDEX reports_by_organization ON reports (organization_id, id);
CREATE INDEX reports_open ON reports (organization_id, id) WHERE resolved_at IS NULL;

CREATE TABLE blocked_words (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    word TEXT NOT NULL,
    action TEXT NOT NULL,
    PRIMARY KEY (organization_id, word)
) STRICT, WITHOUT ROWID;

-- The words of messages, as the server splits the texts; the rowid is the `pk` of the message.
CREATE VIRTUAL TABLE message_words USING fts5 (
    words, content = '', contentless_delete = 1, tokenize = 'ascii'
);
CREATE TRIGGER messages_forget_words AFTER DELETE ON messages
BEGIN
    DELETE FROM message_words WHERE rowid = old.pk;
END;
