DROP TABLE search_reindexing;
-- An older server fills an empty index when it starts.
TRUNCATE message_words;
