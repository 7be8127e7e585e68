-- Threads, pins, mentions, polls, notifications, reports and search. The foundation describes the column types.

ALTER TABLE chats ADD COLUMN archived_at timestamptz;
-- The object of the host application that the chat belongs to; an object has one chat at most.
ALTER TABLE chats ADD COLUMN resource_type text;
ALTER TABLE chats ADD COLUMN resource_id text;
CREATE UNIQUE INDEX chats_resource ON chats (organization_id, resource_type, resource_id)
    WHERE resource_id IS NOT NULL;

ALTER TABLE members ADD COLUMN silenced_until timestamptz;
ALTER TABLE members ADD COLUMN last_delivered_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN read_privately boolean NOT NULL DEFAULT false;
ALTER TABLE members ADD COLUMN muted_until timestamptz;
ALTER TABLE members ADD COLUMN notification_level text NOT NULL DEFAULT 'all';
ALTER TABLE members ADD COLUMN pinned boolean NOT NULL DEFAULT false;
ALTER TABLE members ADD COLUMN marked_unread boolean NOT NULL DEFAULT false;
ALTER TABLE members ADD COLUMN draft text;
-- When the row last changed without a version of the chat: its read and delivered positions and the
-- member's preferences.
ALTER TABLE members ADD COLUMN moved_at timestamptz;
-- When the row last changed in that way with an effect that other members may see.
ALTER TABLE members ADD COLUMN shown_at timestamptz;

ALTER TABLE messages ADD COLUMN thread_root_seq bigint;
-- Whether the message is in the chat's timeline; replies usually appear only in their thread.
ALTER TABLE messages ADD COLUMN in_timeline boolean NOT NULL DEFAULT true;
ALTER TABLE messages ADD COLUMN reply_count integer NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN mentions_everyone boolean NOT NULL DEFAULT false;
-- Everything but the text: a location, a poll, a system message, the origin of a forwarded message.
ALTER TABLE messages ADD COLUMN content jsonb;
ALTER TABLE messages ADD COLUMN pinned_at timestamptz;
ALTER TABLE messages ADD COLUMN pinned_by text;
CREATE INDEX messages_timeline ON messages (chat_id, seq) WHERE in_timeline;
CREATE INDEX messages_threads ON messages (chat_id, thread_root_seq, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX messages_pinned ON messages (chat_id, pinned_at, seq) WHERE pinned_at IS NOT NULL;
CREATE INDEX messages_to_everyone ON messages (chat_id, seq) WHERE mentions_everyone;

CREATE TABLE mentions (
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (chat_id, user_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);
CREATE INDEX mentions_by_message ON mentions (chat_id, seq);

CREATE TABLE votes (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    -- The index of the option in the poll.
    option integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, option, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

-- Ids ascend with time, so descending ids are newest first.
CREATE TABLE notifications (
    id uuid NOT NULL PRIMARY KEY,
    organization_id text NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq bigint,
    actor_id text,
    created_at timestamptz NOT NULL,
    read_at timestamptz
);
CREATE INDEX notifications_by_user ON notifications (organization_id, user_id, id);
CREATE INDEX notifications_unread ON notifications (organization_id, user_id, id) WHERE read_at IS NULL;
CREATE INDEX notifications_unread_of_chat ON notifications (chat_id, user_id) WHERE read_at IS NULL;
CREATE INDEX notifications_by_message ON notifications (chat_id, seq, user_id);

CREATE TABLE reports (
    id uuid NOT NULL PRIMARY KEY,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq bigint NOT NULL,
    reporter_id text NOT NULL,
    reason text NOT NULL,
    -- The text of the message when it was reported; it may have been edited or deleted since.
    text text,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    resolution text,
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);
-- A user can report a message once.
CREATE UNIQUE INDEX reports_by_message ON reports (chat_id, seq, reporter_id);
CREATE INDEX reports_by_organization ON reports (organization_id, id);
CREATE INDEX reports_open ON reports (organization_id, id) WHERE resolved_at IS NULL;

CREATE TABLE blocked_words (
    organization_id text NOT NULL REFERENCES organizations (id),
    word text COLLATE "C" NOT NULL,
    action text NOT NULL,
    PRIMARY KEY (organization_id, word)
);

-- The words of messages, as the server splits the texts.
CREATE TABLE message_words (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (chat_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);
CREATE INDEX message_words_by_word ON message_words USING gin (words);
