DROP INDEX chats_without_search;
ALTER TABLE chats DROP COLUMN title_search;
DROP INDEX users_without_search;
ALTER TABLE users DROP COLUMN name_search;
