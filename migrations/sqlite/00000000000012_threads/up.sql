-- The followers of threads, and the replies up to which users have read them.

CREATE TABLE thread_members (
    chat_id BLOB NOT NULL,
    root_seq INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    -- True if later replies notify the user, who wrote the root or a reply, or was mentioned in one.
    is_following INTEGER NOT NULL,
    last_read_seq INTEGER NOT NULL,
    -- The replies up to this number are not unread for a user who began to follow the thread after them.
    follows_after_seq INTEGER NOT NULL,
    -- The time at which the user last marked the thread as read. Sending a reply does not set it.
    marked_read_at INTEGER,
    PRIMARY KEY (chat_id, root_seq, user_id),
    FOREIGN KEY (chat_id, root_seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_members_by_user ON thread_members (chat_id, user_id, marked_read_at);

-- The thread of a mention in a reply that is not in the timeline.
ALTER TABLE mentions ADD COLUMN thread_root_seq INTEGER;
UPDATE mentions SET thread_root_seq = (
    SELECT messages.thread_root_seq FROM messages
    WHERE messages.chat_id = mentions.chat_id AND messages.seq = mentions.seq AND NOT messages.in_timeline
);
CREATE INDEX mentions_in_threads ON mentions (chat_id, user_id, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX messages_to_everyone_in_threads ON messages (chat_id, seq) WHERE mentions_everyone AND NOT in_timeline;

-- Existing threads are followed by those who took part in them, and are read.
INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq)
SELECT participants.chat_id, participants.root_seq, participants.user_id, TRUE, chats.version, chats.version
FROM (
    SELECT chat_id, thread_root_seq AS root_seq, sender_id AS user_id FROM messages
    WHERE thread_root_seq IS NOT NULL AND sender_id IS NOT NULL
    UNION
    SELECT root.chat_id, root.seq, root.sender_id FROM messages AS root
    JOIN messages AS reply ON reply.chat_id = root.chat_id AND reply.thread_root_seq = root.seq
    WHERE root.sender_id IS NOT NULL
    UNION
    SELECT chat_id, thread_root_seq, user_id FROM mentions WHERE thread_root_seq IS NOT NULL
) AS participants
JOIN chats ON chats.id = participants.chat_id;
