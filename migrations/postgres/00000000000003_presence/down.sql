DROP INDEX users_revoked;
ALTER TABLE users DROP COLUMN revoked_before;
ALTER TABLE users DROP COLUMN last_seen_at;
