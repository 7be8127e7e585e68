-- When people were last there, and since when their tokens count.

ALTER TABLE users ADD COLUMN last_seen_at timestamptz;
-- Tokens made before this moment are void.
ALTER TABLE users ADD COLUMN revoked_before timestamptz;
CREATE INDEX users_revoked ON users (revoked_before) WHERE revoked_before IS NOT NULL;
