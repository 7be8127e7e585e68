ALTER TABLE users DROP COLUMN token_expires_at;
ALTER TABLE users DROP COLUMN token_issued_at;
DROP TABLE chat_bans;
