-- Users who may not be members of a chat, and the tokens that describe users.

CREATE TABLE chat_bans (
    organization_id text NOT NULL,
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    banned_by text NOT NULL,
    banned_at timestamptz NOT NULL,
    reason text,
    PRIMARY KEY (chat_id, user_id)
);
CREATE INDEX chat_bans_by_time ON chat_bans (chat_id, banned_at, user_id);
-- Leaves the chats from which a user is banned out of the list of channels to join.
CREATE INDEX chat_bans_by_user ON chat_bans (organization_id, user_id);

-- The times of issue and of expiry of the token that the name and the picture come from: an older token does not
-- replace them.
ALTER TABLE users ADD COLUMN token_issued_at timestamptz;
ALTER TABLE users ADD COLUMN token_expires_at timestamptz;
