-- Lists of chats follow what users said, and members may be limited to the messages since they joined.

-- The number of the newest message of a user in the timeline, unlike `last_seq`, which counts system messages too.
ALTER TABLE chats ADD COLUMN last_message_seq bigint NOT NULL DEFAULT 0;
UPDATE chats SET last_message_seq = COALESCE((
    SELECT messages.seq FROM messages
    WHERE messages.chat_id = chats.id AND messages.in_timeline AND messages.kind <> 'system'
    ORDER BY messages.seq DESC LIMIT 1
), 0);
UPDATE chats SET last_activity_at = COALESCE((
    SELECT messages.created_at FROM messages
    WHERE messages.chat_id = chats.id AND messages.seq = chats.last_message_seq
), chats.created_at);

ALTER TABLE chats ADD COLUMN history_for_new_members text NOT NULL DEFAULT 'all';
-- The member may read the messages after this number.
ALTER TABLE members ADD COLUMN history_after_seq bigint NOT NULL DEFAULT 0;
