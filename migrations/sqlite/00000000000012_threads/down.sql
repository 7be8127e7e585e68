DROP INDEX messages_to_everyone_in_threads;
DROP INDEX mentions_in_threads;
ALTER TABLE mentions DROP COLUMN thread_root_seq;
DROP TABLE thread_members;
