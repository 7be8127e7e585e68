DROP TABLE search_reindexing;
-- An older server fills an empty index when it starts.
INSERT INTO message_words (message_words) VALUES ('delete-all');
