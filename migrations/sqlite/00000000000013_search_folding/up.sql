-- Messages, names and titles are found by a form without case, marks and ignored characters. A task of the server gives
-- the existing rows that form while it serves. Until then they are found by the form that they have.

-- Null until the task has come to the row.
ALTER TABLE users ADD COLUMN name_search TEXT;
CREATE INDEX users_without_search ON users (organization_id, id) WHERE name_search IS NULL;
ALTER TABLE chats ADD COLUMN title_search TEXT;
CREATE INDEX chats_without_search ON chats (id) WHERE title_search IS NULL AND title IS NOT NULL;

DELETE FROM search_reindexing;
INSERT INTO search_reindexing (id, chat_id, seq) VALUES (1, zeroblob(16), 0);
