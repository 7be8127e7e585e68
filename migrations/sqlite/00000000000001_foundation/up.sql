-- Ids are BLOBs of 16 bytes, times are microseconds since 1970 in UTC, and JSON is SQLite's JSONB.

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The case-folded name, by which both engines sort and search lists in the same way.
    name_folded TEXT NOT NULL,
    avatar_url TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (organization_id, id)
) STRICT;
CREATE INDEX users_by_name ON users (organization_id, name_folded, id);

CREATE TABLE chats (
    id BLOB NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    category TEXT,
    title TEXT,
    title_folded TEXT,
    description TEXT,
    avatar_url TEXT,
    policy BLOB NOT NULL,
    slow_mode_seconds INTEGER NOT NULL,
    created_by TEXT,
    created_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    -- The chat's counter, and its values at the last change of this row and at the newest message.
    version INTEGER NOT NULL,
    details_version INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    -- The pair of users of a direct chat, which have one direct chat only.
    direct_key TEXT,
    -- By these a repeated creation finds the chat that the first one made.
    nonce TEXT,
    fingerprint BLOB
) STRICT;
CREATE UNIQUE INDEX chats_direct ON chats (organization_id, direct_key) WHERE direct_key IS NOT NULL;
CREATE UNIQUE INDEX chats_nonce ON chats (organization_id, created_by, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX chats_channels ON chats (organization_id) WHERE kind = 'channel';

CREATE TABLE members (
    chat_id BLOB NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    role TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    added_by TEXT,
    left_at INTEGER,
    version INTEGER NOT NULL,
    last_read_seq INTEGER NOT NULL,
    last_read_at INTEGER,
    last_posted_at INTEGER,
    PRIMARY KEY (chat_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (organization_id, user_id) WHERE left_at IS NULL;
CREATE INDEX members_by_version ON members (chat_id, version);

CREATE TABLE messages (
    -- A stable rowid, which the full-text index refers to.
    pk INTEGER PRIMARY KEY,
    chat_id BLOB NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sender_id TEXT,
    nonce TEXT,
    fingerprint BLOB,
    text TEXT,
    reply_to_seq INTEGER,
    created_at INTEGER NOT NULL,
    edited_at INTEGER,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (chat_id, seq);
CREATE INDEX messages_by_version ON messages (chat_id, version);
CREATE UNIQUE INDEX messages_nonce ON messages (chat_id, nonce, sender_id) WHERE nonce IS NOT NULL;

CREATE TABLE revisions (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    text TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, version),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE reactions (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, emoji, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
