ALTER TABLE members DROP COLUMN history_after_seq;
ALTER TABLE chats DROP COLUMN history_for_new_members;
ALTER TABLE chats DROP COLUMN last_message_seq;
