-- Each word in the full-text index begins with a prefix of its organisation, so that a search reads the entries of its
-- organisation only. The index is emptied, and a task of the server fills it again while it serves.

INSERT INTO message_words (message_words) VALUES ('delete-all');

-- The last message that the task has added to the index. There is one row while messages are missing, and none after.
CREATE TABLE search_reindexing (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO search_reindexing (id, chat_id, seq) VALUES (1, zeroblob(16), 0);
