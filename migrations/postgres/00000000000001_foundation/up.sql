-- Text that sorts a list is compared by its bytes (COLLATE "C"), so that both engines agree.

CREATE TABLE organizations (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    created_at timestamptz NOT NULL
);

CREATE TABLE users (
    organization_id text NOT NULL REFERENCES organizations (id),
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    -- The case-folded name, by which both engines sort and search lists in the same way.
    name_folded text COLLATE "C" NOT NULL,
    avatar_url text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX users_by_name ON users (organization_id, name_folded, id);

-- Each send updates these rows. Free space on their pages keeps the updated rows there (HOT).
CREATE TABLE chats (
    id uuid NOT NULL PRIMARY KEY,
    organization_id text NOT NULL REFERENCES organizations (id),
    kind text NOT NULL,
    category text,
    title text,
    title_folded text,
    description text,
    avatar_url text,
    policy jsonb NOT NULL,
    slow_mode_seconds integer NOT NULL,
    created_by text,
    created_at timestamptz NOT NULL,
    last_activity_at timestamptz NOT NULL,
    -- The chat's counter, and its values at the last change of this row and at the newest message.
    version bigint NOT NULL,
    details_version bigint NOT NULL,
    last_seq bigint NOT NULL,
    member_count integer NOT NULL,
    -- The pair of users of a direct chat, which have one direct chat only.
    direct_key text,
    -- By these a repeated creation finds the chat that the first one made.
    nonce text,
    fingerprint bytea
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX chats_direct ON chats (organization_id, direct_key) WHERE direct_key IS NOT NULL;
CREATE UNIQUE INDEX chats_nonce ON chats (organization_id, created_by, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX chats_channels ON chats (organization_id) WHERE kind = 'channel';

CREATE TABLE members (
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    organization_id text NOT NULL,
    role text NOT NULL,
    joined_at timestamptz NOT NULL,
    added_by text,
    left_at timestamptz,
    version bigint NOT NULL,
    last_read_seq bigint NOT NULL,
    last_read_at timestamptz,
    last_posted_at timestamptz,
    PRIMARY KEY (chat_id, user_id)
) WITH (fillfactor = 70);
CREATE INDEX members_by_user ON members (organization_id, user_id) WHERE left_at IS NULL;
CREATE INDEX members_by_version ON members (chat_id, version);

CREATE TABLE messages (
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL,
    sender_id text COLLATE "C",
    nonce text,
    fingerprint bytea,
    text text,
    reply_to_seq bigint,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (chat_id, seq)
);
CREATE INDEX messages_by_version ON messages (chat_id, version);
CREATE UNIQUE INDEX messages_nonce ON messages (chat_id, nonce, sender_id) WHERE nonce IS NOT NULL;

CREATE TABLE revisions (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    text text NOT NULL,
    edited_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, version),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE reactions (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    emoji text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, emoji, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);
