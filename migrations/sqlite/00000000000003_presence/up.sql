-- When users were last online, and since when their tokens are valid.

ALTER TABLE users ADD COLUMN last_seen_at INTEGER;
-- Tokens issued up to this time are revoked.
ALTER TABLE users ADD COLUMN revoked_before INTEGER;
CREATE INDEX users_revoked ON users (revoked_before) WHERE revoked_before IS NOT NULL;
