-- Every table but the small reference tables gets the column `bucket`, first in its primary key, its unique indexes and
-- its foreign keys. All rows of an organisation have one bucket, which the ids of its chats, calls, notifications and
-- reports contain.
--
-- `bucketed_ids` has the new id and the bucket of each row from before. The server fills it just before this migration
-- (src/storage/bucket_conversion.rs), because SQL cannot compute them. It has no rows in a new database. After the
-- migration the server writes the column `nonce_hash` of the copied messages.

ALTER TABLE chats RENAME TO old_chats;
ALTER TABLE members RENAME TO old_members;
ALTER TABLE messages RENAME TO old_messages;
ALTER TABLE revisions RENAME TO old_revisions;
ALTER TABLE reactions RENAME TO old_reactions;
ALTER TABLE mentions RENAME TO old_mentions;
ALTER TABLE thread_members RENAME TO old_thread_members;
ALTER TABLE votes RENAME TO old_votes;
ALTER TABLE notifications RENAME TO old_notifications;
ALTER TABLE reports RENAME TO old_reports;
ALTER TABLE chat_bans RENAME TO old_chat_bans;
ALTER TABLE calls RENAME TO old_calls;
ALTER TABLE call_participants RENAME TO old_call_participants;
ALTER TABLE call_signals RENAME TO old_call_signals;
DROP INDEX messages_by_seq;
-- Nobody asks for the chats that were deleted before, because no cursor from before is valid (see the end).
DROP TABLE removals;
-- A task of the server fills the full-text index again while it serves, because words have another prefix.
INSERT INTO message_words (message_words) VALUES ('delete-all');
DROP TABLE search_reindexing;

CREATE TABLE chats (
    bucket INTEGER NOT NULL,
    -- A chat of two users, of a resource, or with a nonce of its creator has an id that follows from these.
    id BLOB NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    category TEXT,
    title TEXT,
    title_folded TEXT,
    description TEXT,
    avatar_url TEXT,
    policy BLOB NOT NULL,
    slow_mode_seconds INTEGER NOT NULL,
    created_by TEXT,
    created_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    -- The chat's counter, and its values at the last change of this row and at the newest message.
    version INTEGER NOT NULL,
    details_version INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    -- A hash of the request that created the chat, by which a repeated request is told from another one.
    fingerprint BLOB,
    archived_at INTEGER,
    -- The object of the host application that the chat belongs to; an object has one chat at most.
    resource_type TEXT,
    resource_id TEXT,
    -- When the chat's version last increased.
    changed_at INTEGER NOT NULL,
    -- The number of the newest message of a user in the timeline, unlike `last_seq`, which counts system messages too.
    last_message_seq INTEGER NOT NULL DEFAULT 0,
    history_for_new_members TEXT NOT NULL DEFAULT 'all',
    -- Null until the task of the search forms has come to the row.
    title_search TEXT,
    PRIMARY KEY (bucket, id)
) STRICT;

CREATE TABLE members (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    role TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    added_by TEXT,
    left_at INTEGER,
    version INTEGER NOT NULL,
    last_read_seq INTEGER NOT NULL,
    last_read_at INTEGER,
    last_posted_at INTEGER,
    silenced_until INTEGER,
    last_delivered_seq INTEGER NOT NULL DEFAULT 0,
    read_privately INTEGER NOT NULL DEFAULT FALSE,
    muted_until INTEGER,
    notification_level TEXT NOT NULL DEFAULT 'all',
    pinned INTEGER NOT NULL DEFAULT FALSE,
    marked_unread INTEGER NOT NULL DEFAULT FALSE,
    draft TEXT,
    -- When the row last changed without a version of the chat: its read and delivered positions and the member's
    -- preferences.
    moved_at INTEGER,
    -- When the row last changed in that way with an effect that other members may see.
    shown_at INTEGER,
    -- The member may read the messages after this number.
    history_after_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, chat_id, user_id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    -- A stable rowid, which the full-text index refers to.
    pk INTEGER PRIMARY KEY,
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    -- Equal to the number until the message changes.
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sender_id TEXT,
    nonce TEXT,
    -- A hash of the chat and the nonce, by which a repeated send finds the message.
    nonce_hash INTEGER,
    fingerprint BLOB,
    text TEXT,
    reply_to_seq INTEGER,
    created_at INTEGER NOT NULL,
    edited_at INTEGER,
    deleted_at INTEGER,
    thread_root_seq INTEGER,
    -- Whether the message is in the chat's timeline; replies usually appear only in their thread.
    in_timeline INTEGER NOT NULL DEFAULT TRUE,
    reply_count INTEGER NOT NULL DEFAULT 0,
    mentions_everyone INTEGER NOT NULL DEFAULT FALSE,
    -- Everything but the text: a location, a poll, a system message, the origin of a forwarded message.
    content BLOB,
    pinned_at INTEGER,
    pinned_by TEXT,
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (bucket, chat_id, seq);

CREATE TABLE revisions (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    text TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, version),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE reactions (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, emoji, user_id),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE mentions (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    -- The thread of a mention in a reply that is not in the timeline.
    thread_root_seq INTEGER,
    PRIMARY KEY (bucket, chat_id, user_id, seq),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The followers of threads, and the replies up to which users have read them.
CREATE TABLE thread_members (
    bucket INTEGER NOT NULL,
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
    PRIMARY KEY (bucket, chat_id, root_seq, user_id),
    FOREIGN KEY (bucket, chat_id, root_seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE votes (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    -- The index of the option in the poll.
    option INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, option, user_id),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Ids ascend with time, so descending ids are newest first.
CREATE TABLE notifications (
    bucket INTEGER NOT NULL,
    id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER,
    actor_id TEXT,
    created_at INTEGER NOT NULL,
    read_at INTEGER,
    call_id BLOB,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE reports (
    bucket INTEGER NOT NULL,
    id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    reporter_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The text of the message when it was reported; it may have been edited or deleted since.
    text TEXT,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolved_by TEXT,
    resolution TEXT,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE,
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
) STRICT;

-- Users who may not be members of a chat.
CREATE TABLE chat_bans (
    bucket INTEGER NOT NULL,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    banned_by TEXT NOT NULL,
    banned_at INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (bucket, chat_id, user_id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE calls (
    bucket INTEGER NOT NULL,
    id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    started_by TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    rings_until INTEGER NOT NULL,
    answered_at INTEGER,
    alone_since INTEGER,
    ended_at INTEGER,
    end_reason TEXT,
    -- The milliseconds from the answer to the end.
    talked INTEGER NOT NULL DEFAULT 0,
    -- The call's next deadline, without the ends of its participants' leases; null if there is none.
    due_at INTEGER,
    -- The number of the call's last change or signal, and of its last change without signals.
    version INTEGER NOT NULL,
    own_version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- Signals up to this version have been deleted.
    forgotten INTEGER NOT NULL DEFAULT 0,
    -- The size of the call's signals that are kept.
    signal_bytes INTEGER NOT NULL DEFAULT 0,
    -- The user who may end the call; the last one once the call has ended.
    host_id TEXT NOT NULL,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE call_participants (
    bucket INTEGER NOT NULL,
    call_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    -- The index of the participant in the order in which they were added to the call.
    place INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    status TEXT NOT NULL,
    joined_at INTEGER,
    left_at INTEGER,
    audio INTEGER NOT NULL,
    video INTEGER NOT NULL,
    screen INTEGER NOT NULL,
    version INTEGER NOT NULL,
    -- The call's version when the participant joined; earlier signals are not delivered.
    joined_version INTEGER NOT NULL,
    -- Signals to the participant up to this version have been deleted.
    forgotten INTEGER NOT NULL DEFAULT 0,
    -- The end of a joined participant's lease; one who does not renew it by then has left.
    expires_at INTEGER,
    listening INTEGER NOT NULL,
    -- Sums of the figures that the participant's devices reported.
    reports INTEGER NOT NULL,
    round_trip_ms REAL NOT NULL,
    packet_loss_percent REAL NOT NULL,
    bitrate_kbps REAL NOT NULL,
    -- The number of times that the participant joined, and why they last left.
    joins INTEGER NOT NULL DEFAULT 0,
    departure TEXT,
    -- The feed that the participant opened last since they joined; null before the first one.
    feed_id BLOB,
    decline_reason TEXT,
    -- True if the participant may not join the call again.
    barred INTEGER NOT NULL DEFAULT FALSE,
    PRIMARY KEY (bucket, call_id, user_id),
    FOREIGN KEY (bucket, call_id) REFERENCES calls (bucket, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The signals of a call, kept until it ends.
CREATE TABLE call_signals (
    bucket INTEGER NOT NULL,
    call_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    from_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- The sender's name for the signal, so that a repeated request sends it once.
    nonce TEXT,
    -- A hash of the signal, which tells a repeated request from another one with the same nonce.
    fingerprint BLOB,
    PRIMARY KEY (bucket, call_id, version),
    FOREIGN KEY (bucket, call_id) REFERENCES calls (bucket, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The users who lost a chat by its deletion; kept for as long as a cursor may be old.
CREATE TABLE removals (
    bucket INTEGER NOT NULL,
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    removed_at INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    PRIMARY KEY (bucket, organization_id, user_id, removed_at, chat_id)
) STRICT, WITHOUT ROWID;

-- The last version of every deleted chat whose id follows from its users, its resource or its nonce. A chat that is
-- made again with the same id continues after that version, so that cursors and ids from before never mean
-- anything else.
CREATE TABLE deleted_chats (
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL,
    PRIMARY KEY (bucket, chat_id)
) STRICT, WITHOUT ROWID;

INSERT INTO chats (bucket, id, organization_id, kind, category, title, title_folded, description, avatar_url, policy,
    slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count,
    fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members,
    title_search)
SELECT chat.bucket, chat.id, old.organization_id, old.kind, old.category, old.title, old.title_folded,
    old.description, old.avatar_url, old.policy, old.slow_mode_seconds, old.created_by, old.created_at,
    old.last_activity_at, old.version, old.details_version, old.last_seq, old.member_count, old.fingerprint,
    old.archived_at, old.resource_type, old.resource_id, old.changed_at, old.last_message_seq,
    old.history_for_new_members, old.title_search
FROM old_chats AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.id;

INSERT INTO members (bucket, chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version,
    last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until,
    notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
SELECT chat.bucket, chat.id, old.user_id, old.organization_id, old.role, old.joined_at, old.added_by, old.left_at,
    old.version, old.last_read_seq, old.last_read_at, old.last_posted_at, old.silenced_until, old.last_delivered_seq,
    old.read_privately, old.muted_until, old.notification_level, old.pinned, old.marked_unread, old.draft,
    old.moved_at, old.shown_at, old.history_after_seq
FROM old_members AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO messages (pk, bucket, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq,
    created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content,
    pinned_at, pinned_by)
SELECT old.pk, chat.bucket, chat.id, old.seq, old.version, old.kind, old.sender_id, old.nonce,
    substr(old.fingerprint, 1, 8), old.text, old.reply_to_seq, old.created_at, old.edited_at, old.deleted_at,
    old.thread_root_seq, old.in_timeline, old.reply_count, old.mentions_everyone,
    CASE WHEN call.id IS NULL THEN old.content ELSE
    jsonb_set(old.content, '$.notice.call', jsonb_object(
        'chat', lower(format('%s-%s-%s-%s-%s', hex(substr(chat.id, 1, 4)), hex(substr(chat.id, 5, 2)),
            hex(substr(chat.id, 7, 2)), hex(substr(chat.id, 9, 2)), hex(substr(chat.id, 11)))),
        'call', lower(format('%s-%s-%s-%s-%s', hex(substr(call.id, 1, 4)), hex(substr(call.id, 5, 2)),
            hex(substr(call.id, 7, 2)), hex(substr(call.id, 9, 2)), hex(substr(call.id, 11))))
    )) END,
    old.pinned_at, old.pinned_by
FROM old_messages AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id
-- A system message about a call contains its id.
LEFT JOIN bucketed_ids AS call
    ON call.old_id = unhex(replace(old.content ->> '$.notice.call.call', '-', ''));

INSERT INTO revisions (bucket, chat_id, seq, version, text, edited_at)
SELECT chat.bucket, chat.id, old.seq, old.version, old.text, old.edited_at
FROM old_revisions AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO reactions (bucket, chat_id, seq, emoji, user_id, created_at)
SELECT chat.bucket, chat.id, old.seq, old.emoji, old.user_id, old.created_at
FROM old_reactions AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO mentions (bucket, chat_id, user_id, seq, thread_root_seq)
SELECT chat.bucket, chat.id, old.user_id, old.seq, old.thread_root_seq
FROM old_mentions AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO thread_members (bucket, chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq,
    marked_read_at)
SELECT chat.bucket, chat.id, old.root_seq, old.user_id, old.is_following, old.last_read_seq, old.follows_after_seq,
    old.marked_read_at
FROM old_thread_members AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO votes (bucket, chat_id, seq, option, user_id, created_at)
SELECT chat.bucket, chat.id, old.seq, old.option, old.user_id, old.created_at
FROM old_votes AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO notifications (bucket, id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at,
    call_id)
SELECT chat.bucket, own.id, old.organization_id, old.user_id, old.kind, chat.id, old.seq, old.actor_id,
    old.created_at, old.read_at, call.id
FROM old_notifications AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id
JOIN bucketed_ids AS own ON own.old_id = old.id
LEFT JOIN bucketed_ids AS call ON call.old_id = old.call_id;

INSERT INTO reports (bucket, id, organization_id, chat_id, seq, reporter_id, reason, text, created_at, resolved_at,
    resolved_by, resolution)
SELECT chat.bucket, own.id, old.organization_id, chat.id, old.seq, old.reporter_id, old.reason, old.text,
    old.created_at, old.resolved_at, old.resolved_by, old.resolution
FROM old_reports AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id
JOIN bucketed_ids AS own ON own.old_id = old.id;

INSERT INTO chat_bans (bucket, organization_id, chat_id, user_id, banned_by, banned_at, reason)
SELECT chat.bucket, old.organization_id, chat.id, old.user_id, old.banned_by, old.banned_at, old.reason
FROM old_chat_bans AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id;

INSERT INTO calls (bucket, id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at,
    alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes,
    host_id)
SELECT chat.bucket, own.id, old.organization_id, chat.id, old.kind, old.started_by, old.started_at, old.rings_until,
    old.answered_at, old.alone_since, old.ended_at, old.end_reason, old.talked, old.due_at, old.version,
    old.own_version, old.changed_at, old.forgotten, old.signal_bytes, old.host_id
FROM old_calls AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id
JOIN bucketed_ids AS own ON own.old_id = old.id;

INSERT INTO call_participants (bucket, call_id, user_id, organization_id, place, device_id, status, joined_at,
    left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms,
    packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
SELECT call.bucket, call.id, old.user_id, old.organization_id, old.place, old.device_id, old.status, old.joined_at,
    old.left_at, old.audio, old.video, old.screen, old.version, old.joined_version, old.forgotten, old.expires_at,
    old.listening, old.reports, old.round_trip_ms, old.packet_loss_percent, old.bitrate_kbps, old.joins,
    old.departure, old.feed_id, old.decline_reason, old.barred
FROM old_call_participants AS old
JOIN bucketed_ids AS call ON call.old_id = old.call_id;

INSERT INTO call_signals (bucket, call_id, version, from_id, to_id, kind, payload, bytes, nonce, fingerprint)
SELECT call.bucket, call.id, old.version, old.from_id, old.to_id, old.kind, old.payload, old.bytes, old.nonce,
    old.fingerprint
FROM old_call_signals AS old
JOIN bucketed_ids AS call ON call.old_id = old.call_id;

DROP TABLE old_call_signals;
DROP TABLE old_call_participants;
DROP TABLE old_calls;
DROP TABLE old_chat_bans;
DROP TABLE old_reports;
DROP TABLE old_notifications;
DROP TABLE old_votes;
DROP TABLE old_thread_members;
DROP TABLE old_mentions;
DROP TABLE old_reactions;
DROP TABLE old_revisions;
DROP TABLE old_messages;
DROP TABLE old_members;
DROP TABLE old_chats;
DROP TABLE bucketed_ids;

CREATE INDEX chats_channels ON chats (bucket, organization_id) WHERE kind = 'channel';
CREATE INDEX members_by_user ON members (bucket, organization_id, user_id) WHERE left_at IS NULL;
CREATE INDEX members_left ON members (bucket, organization_id, user_id, left_at) WHERE left_at IS NOT NULL;
CREATE INDEX members_by_version ON members (bucket, chat_id, version);
-- Messages that have not changed are found by their number, which is their version.
CREATE INDEX messages_changed ON messages (bucket, chat_id, version) WHERE version > seq;
-- A transaction that sends holds the lock of the chat, so the index does not have to be unique.
CREATE INDEX messages_nonce ON messages (bucket, nonce_hash) WHERE nonce_hash IS NOT NULL;
CREATE INDEX messages_timeline ON messages (bucket, chat_id, seq) WHERE in_timeline;
CREATE INDEX messages_threads ON messages (bucket, chat_id, thread_root_seq, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX messages_pinned ON messages (bucket, chat_id, pinned_at, seq) WHERE pinned_at IS NOT NULL;
CREATE INDEX messages_to_everyone ON messages (bucket, chat_id, seq) WHERE mentions_everyone;
CREATE INDEX messages_to_everyone_in_threads ON messages (bucket, chat_id, seq)
    WHERE mentions_everyone AND NOT in_timeline;
CREATE INDEX mentions_by_message ON mentions (bucket, chat_id, seq);
CREATE INDEX mentions_in_threads ON mentions (bucket, chat_id, user_id, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX thread_members_by_user ON thread_members (bucket, chat_id, user_id, marked_read_at);
CREATE INDEX notifications_by_user ON notifications (bucket, organization_id, user_id, id);
CREATE INDEX notifications_created ON notifications (bucket, organization_id, user_id, created_at);
-- Serves unread notifications by id, and read ones by the time at which they were read.
CREATE INDEX notifications_read ON notifications (bucket, organization_id, user_id, read_at, id);
CREATE INDEX notifications_unread_of_chat ON notifications (bucket, chat_id, user_id) WHERE read_at IS NULL;
CREATE INDEX notifications_by_message ON notifications (bucket, chat_id, seq, user_id);
-- A user can report a message once.
CREATE UNIQUE INDEX reports_by_message ON reports (bucket, chat_id, seq, reporter_id);
CREATE INDEX reports_by_organization ON reports (bucket, organization_id, id);
CREATE INDEX reports_open ON reports (bucket, organization_id, id) WHERE resolved_at IS NULL;
CREATE INDEX chat_bans_by_time ON chat_bans (bucket, chat_id, banned_at, user_id);
-- Leaves the chats from which a user is banned out of the list of channels to join.
CREATE INDEX chat_bans_by_user ON chat_bans (bucket, organization_id, user_id);
-- A chat has at most one call that has not ended.
CREATE UNIQUE INDEX calls_live ON calls (bucket, chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_by_organization ON calls (bucket, organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (bucket, chat_id);
-- Ids ascend with time, so descending ids are newest first.
CREATE INDEX call_participants_by_user ON call_participants (bucket, organization_id, user_id, call_id);
CREATE INDEX call_participants_ringing ON call_participants (bucket, organization_id, user_id)
    WHERE status = 'ringing';
CREATE INDEX call_participants_joined ON call_participants (bucket, organization_id, user_id)
    WHERE status = 'joined';
CREATE INDEX call_signals_to ON call_signals (bucket, call_id, to_id, version);
CREATE INDEX call_signals_nonce ON call_signals (bucket, call_id, from_id, nonce) WHERE nonce IS NOT NULL;
-- For tasks of the server, which go through the rows of all buckets.
CREATE INDEX chats_without_search ON chats (bucket, id) WHERE title_search IS NULL AND title IS NOT NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_changed ON calls (changed_at);
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX removals_by_age ON removals (removed_at);

CREATE TRIGGER messages_forget_words AFTER DELETE ON messages
BEGIN
    DELETE FROM message_words WHERE rowid = old.pk;
END;

-- The last message that the task has added to the index. There is one row while messages are missing, and none after.
CREATE TABLE search_reindexing (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    bucket INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO search_reindexing (id, bucket, chat_id, seq) VALUES (1, 0, zeroblob(16), 0);

-- Without statistics SQLite takes the bucket for as good a condition as any other column, and reads all rows of an
-- organization. These are the numbers of rows with equal columns in a large organization; nothing else writes them, so
-- that plans do not depend on the data. A later index needs a row here too.
ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat)
SELECT tbl, idx, row_count || group_concat(' ' || CASE
    WHEN is_unique AND next_column IS NULL THEN 1
    WHEN column_name IN ('bucket', 'organization_id') THEN row_count
    WHEN previous_column = 'bucket' AND column_name IN ('chat_id', 'call_id') THEN 1000
    WHEN previous_column = 'organization_id' THEN 50
    WHEN next_column IS NULL THEN 1
    ELSE 10
END, '')
FROM (
    SELECT
        tables.name AS tbl,
        iif(indexes.origin = 'pk' AND tables.wr, tables.name, indexes.name) AS idx,
        iif(indexes.partial, 100000, 1000000) AS row_count,
        indexes."unique" AS is_unique,
        columns.name AS column_name,
        lag(columns.name) OVER same_index AS previous_column,
        lead(columns.name) OVER same_index AS next_column
    FROM pragma_table_list AS tables
    JOIN pragma_index_list(tables.name) AS indexes
    JOIN pragma_index_info(indexes.name) AS columns
    WHERE tables.schema = 'main' AND tables.type = 'table' AND tables.name <> 'search_reindexing'
        AND EXISTS (SELECT 1 FROM pragma_table_info(tables.name) AS own WHERE own.name = 'bucket')
    WINDOW same_index AS (PARTITION BY indexes.name ORDER BY columns.seqno)
    ORDER BY tables.name, indexes.name, columns.seqno
)
GROUP BY tbl, idx, row_count;
ANALYZE sqlite_schema;

-- Chats have other ids, so every client loads everything again.
UPDATE database_epoch SET epoch = random();
