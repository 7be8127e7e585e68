-- Every table but the small reference tables gets the column `bucket`, first in its primary key, its unique indexes and
-- its foreign keys. All rows of an organisation have one bucket, which the ids of its chats, calls, notifications and
-- reports contain.
--
-- `bucketed_ids` has the new id and the bucket of each row from before. The server fills it just before this migration
-- (src/storage/bucket_conversion.rs), because SQL cannot compute them. It has no rows in a new database. After the
-- migration the server writes the column `nonce_hash` of the copied messages.

ALTER TABLE chats RENAME TO old_chats;
ALTER INDEX chats_pkey RENAME TO old_chats_pkey;
ALTER TABLE members RENAME TO old_members;
ALTER INDEX members_pkey RENAME TO old_members_pkey;
ALTER TABLE messages RENAME TO old_messages;
ALTER INDEX messages_pkey RENAME TO old_messages_pkey;
ALTER TABLE revisions RENAME TO old_revisions;
ALTER INDEX revisions_pkey RENAME TO old_revisions_pkey;
ALTER TABLE reactions RENAME TO old_reactions;
ALTER INDEX reactions_pkey RENAME TO old_reactions_pkey;
ALTER TABLE mentions RENAME TO old_mentions;
ALTER INDEX mentions_pkey RENAME TO old_mentions_pkey;
ALTER TABLE thread_members RENAME TO old_thread_members;
ALTER INDEX thread_members_pkey RENAME TO old_thread_members_pkey;
ALTER TABLE votes RENAME TO old_votes;
ALTER INDEX votes_pkey RENAME TO old_votes_pkey;
ALTER TABLE notifications RENAME TO old_notifications;
ALTER INDEX notifications_pkey RENAME TO old_notifications_pkey;
ALTER TABLE reports RENAME TO old_reports;
ALTER INDEX reports_pkey RENAME TO old_reports_pkey;
ALTER TABLE chat_bans RENAME TO old_chat_bans;
ALTER INDEX chat_bans_pkey RENAME TO old_chat_bans_pkey;
ALTER TABLE calls RENAME TO old_calls;
ALTER INDEX calls_pkey RENAME TO old_calls_pkey;
ALTER TABLE call_participants RENAME TO old_call_participants;
ALTER INDEX call_participants_pkey RENAME TO old_call_participants_pkey;
ALTER TABLE call_signals RENAME TO old_call_signals;
ALTER INDEX call_signals_pkey RENAME TO old_call_signals_pkey;
-- Nobody asks for the chats that were deleted before, because no cursor from before is valid (see the end).
DROP TABLE removals;
-- A task of the server fills the full-text index again while it serves, because words have another prefix.
DROP TABLE message_words;
DROP TABLE search_reindexing;

-- Each send updates these rows. Free space on their pages keeps the updated rows there (HOT).
CREATE TABLE chats (
    bucket integer NOT NULL,
    -- A chat of two users, of a resource, or with a nonce of its creator has an id that follows from these.
    id uuid NOT NULL,
    organization_id text NOT NULL REFERENCES organizations (id),
    kind text NOT NULL,
    category text,
    title text,
    title_folded text,
    description text,
    avatar_url text,
    policy jsonb NOT NULL,
    slow_mode_seconds integer NOT NULL,
    created_by text,
    created_at timestamptz NOT NULL,
    last_activity_at timestamptz NOT NULL,
    -- The chat's counter, and its values at the last change of this row and at the newest message.
    version bigint NOT NULL,
    details_version bigint NOT NULL,
    last_seq bigint NOT NULL,
    member_count integer NOT NULL,
    -- A hash of the request that created the chat, by which a repeated request is told from another one.
    fingerprint bytea,
    archived_at timestamptz,
    -- The object of the host application that the chat belongs to; an object has one chat at most.
    resource_type text,
    resource_id text,
    -- When the chat's version last increased.
    changed_at timestamptz NOT NULL,
    -- The number of the newest message of a user in the timeline, unlike `last_seq`, which counts system messages too.
    last_message_seq bigint NOT NULL DEFAULT 0,
    history_for_new_members text NOT NULL DEFAULT 'all',
    -- Null until the task of the search forms has come to the row.
    title_search text,
    PRIMARY KEY (bucket, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE members (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    organization_id text NOT NULL,
    role text NOT NULL,
    joined_at timestamptz NOT NULL,
    added_by text,
    left_at timestamptz,
    version bigint NOT NULL,
    last_read_seq bigint NOT NULL,
    last_read_at timestamptz,
    last_posted_at timestamptz,
    silenced_until timestamptz,
    last_delivered_seq bigint NOT NULL DEFAULT 0,
    read_privately boolean NOT NULL DEFAULT false,
    muted_until timestamptz,
    notification_level text NOT NULL DEFAULT 'all',
    pinned boolean NOT NULL DEFAULT false,
    marked_unread boolean NOT NULL DEFAULT false,
    draft text,
    -- When the row last changed without a version of the chat: its read and delivered positions and the member's
    -- preferences.
    moved_at timestamptz,
    -- When the row last changed in that way with an effect that other members may see.
    shown_at timestamptz,
    -- The member may read the messages after this number.
    history_after_seq bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, chat_id, user_id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The order of the columns avoids padding, and the columns that most messages lack come last.
CREATE TABLE messages (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    reply_count integer NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    -- Equal to the number until the message changes.
    version bigint NOT NULL,
    -- A hash of the chat and the nonce, by which a repeated send finds the message.
    nonce_hash bigint,
    created_at timestamptz NOT NULL,
    -- Whether the message is in the chat's timeline; replies usually appear only in their thread.
    in_timeline boolean NOT NULL DEFAULT true,
    mentions_everyone boolean NOT NULL DEFAULT false,
    kind text NOT NULL,
    sender_id text COLLATE "C",
    nonce text,
    fingerprint bytea,
    text text,
    -- The words of the message, as the server splits its texts.
    words tsvector,
    -- Everything but the text: a location, a poll, a system message, the origin of a forwarded message.
    content jsonb,
    reply_to_seq bigint,
    thread_root_seq bigint,
    edited_at timestamptz,
    deleted_at timestamptz,
    pinned_at timestamptz,
    pinned_by text,
    PRIMARY KEY (bucket, chat_id, seq),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);

CREATE TABLE revisions (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    text text NOT NULL,
    edited_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, version),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE reactions (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    emoji text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, emoji, user_id),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE mentions (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    -- The thread of a mention in a reply that is not in the timeline.
    thread_root_seq bigint,
    PRIMARY KEY (bucket, chat_id, user_id, seq),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

-- The followers of threads, and the replies up to which users have read them.
CREATE TABLE thread_members (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    root_seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- True if later replies notify the user, who wrote the root or a reply, or was mentioned in one.
    is_following boolean NOT NULL,
    last_read_seq bigint NOT NULL,
    -- The replies up to this number are not unread for a user who began to follow the thread after them.
    follows_after_seq bigint NOT NULL,
    -- The time at which the user last marked the thread as read. Sending a reply does not set it.
    marked_read_at timestamptz,
    PRIMARY KEY (bucket, chat_id, root_seq, user_id),
    FOREIGN KEY (bucket, chat_id, root_seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE votes (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    -- The index of the option in the poll.
    option integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, chat_id, seq, option, user_id),
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

-- Ids ascend with time, so descending ids are newest first.
CREATE TABLE notifications (
    bucket integer NOT NULL,
    id uuid NOT NULL,
    organization_id text NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint,
    actor_id text,
    created_at timestamptz NOT NULL,
    read_at timestamptz,
    call_id uuid,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);

CREATE TABLE reports (
    bucket integer NOT NULL,
    id uuid NOT NULL,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    reporter_id text NOT NULL,
    reason text NOT NULL,
    -- The text of the message when it was reported; it may have been edited or deleted since.
    text text,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    resolution text,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE,
    FOREIGN KEY (bucket, chat_id, seq) REFERENCES messages (bucket, chat_id, seq) ON DELETE CASCADE
);

-- Users who may not be members of a chat.
CREATE TABLE chat_bans (
    bucket integer NOT NULL,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    banned_by text NOT NULL,
    banned_at timestamptz NOT NULL,
    reason text,
    PRIMARY KEY (bucket, chat_id, user_id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
);

CREATE TABLE calls (
    bucket integer NOT NULL,
    id uuid NOT NULL,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL,
    kind text NOT NULL,
    started_by text NOT NULL,
    started_at timestamptz NOT NULL,
    rings_until timestamptz NOT NULL,
    answered_at timestamptz,
    alone_since timestamptz,
    ended_at timestamptz,
    end_reason text,
    -- The milliseconds from the answer to the end.
    talked bigint NOT NULL DEFAULT 0,
    -- The call's next deadline, without the ends of its participants' leases; null if there is none.
    due_at timestamptz,
    -- The number of the call's last change or signal, and of its last change without signals.
    version bigint NOT NULL,
    own_version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    -- Signals up to this version have been deleted.
    forgotten bigint NOT NULL DEFAULT 0,
    -- The size of the call's signals that are kept.
    signal_bytes bigint NOT NULL DEFAULT 0,
    -- The user who may end the call; the last one once the call has ended.
    host_id text NOT NULL,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, chat_id) REFERENCES chats (bucket, id) ON DELETE CASCADE
);

CREATE TABLE call_participants (
    bucket integer NOT NULL,
    call_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    organization_id text NOT NULL,
    -- The index of the participant in the order in which they were added to the call.
    place integer NOT NULL,
    device_id text NOT NULL,
    status text NOT NULL,
    joined_at timestamptz,
    left_at timestamptz,
    audio boolean NOT NULL,
    video boolean NOT NULL,
    screen boolean NOT NULL,
    version bigint NOT NULL,
    -- The call's version when the participant joined; earlier signals are not delivered.
    joined_version bigint NOT NULL,
    -- Signals to the participant up to this version have been deleted.
    forgotten bigint NOT NULL DEFAULT 0,
    -- The end of a joined participant's lease; one who does not renew it by then has left.
    expires_at timestamptz,
    listening boolean NOT NULL,
    -- Sums of the figures that the participant's devices reported.
    reports integer NOT NULL,
    round_trip_ms double precision NOT NULL,
    packet_loss_percent double precision NOT NULL,
    bitrate_kbps double precision NOT NULL,
    -- The number of times that the participant joined, and why they last left.
    joins integer NOT NULL DEFAULT 0,
    departure text,
    -- The feed that the participant opened last since they joined; null before the first one.
    feed_id uuid,
    decline_reason text,
    -- True if the participant may not join the call again.
    barred boolean NOT NULL DEFAULT false,
    PRIMARY KEY (bucket, call_id, user_id),
    FOREIGN KEY (bucket, call_id) REFERENCES calls (bucket, id) ON DELETE CASCADE
);

-- The signals of a call, kept until it ends.
CREATE TABLE call_signals (
    bucket integer NOT NULL,
    call_id uuid NOT NULL,
    version bigint NOT NULL,
    from_id text COLLATE "C" NOT NULL,
    to_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    bytes bigint NOT NULL DEFAULT 0,
    -- The sender's name for the signal, so that a repeated request sends it once.
    nonce text,
    -- A hash of the signal, which tells a repeated request from another one with the same nonce.
    fingerprint bytea,
    PRIMARY KEY (bucket, call_id, version),
    FOREIGN KEY (bucket, call_id) REFERENCES calls (bucket, id) ON DELETE CASCADE
);

-- The users who lost a chat by its deletion; kept for as long as a cursor may be old.
CREATE TABLE removals (
    bucket integer NOT NULL,
    organization_id text NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL,
    chat_id uuid NOT NULL,
    PRIMARY KEY (bucket, organization_id, user_id, removed_at, chat_id)
);

-- The last version of every deleted chat whose id follows from its users, its resource or its nonce. A chat that is
-- made again with the same id continues after that version, so that cursors and ids from before never mean
-- anything else.
CREATE TABLE deleted_chats (
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    organization_id text NOT NULL,
    version bigint NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, chat_id)
);

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

INSERT INTO messages (bucket, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq,
    created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content,
    pinned_at, pinned_by)
SELECT chat.bucket, chat.id, old.seq, old.version, old.kind, old.sender_id, old.nonce,
    substr(old.fingerprint, 1, 8), old.text, old.reply_to_seq, old.created_at, old.edited_at, old.deleted_at,
    old.thread_root_seq, old.in_timeline, old.reply_count, old.mentions_everyone,
    CASE WHEN call.id IS NULL THEN old.content ELSE
    jsonb_set(old.content, '{notice,call}', jsonb_build_object('chat', chat.id, 'call', call.id)) END,
    old.pinned_at, old.pinned_by
FROM old_messages AS old
JOIN bucketed_ids AS chat ON chat.old_id = old.chat_id
-- A system message about a call contains its id.
LEFT JOIN bucketed_ids AS call ON call.old_id = (old.content #>> '{notice,call,call}')::uuid;

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
-- A list of entries that are not in the index yet would be read whole by each search, whatever its organization.
CREATE INDEX messages_by_word ON messages USING gin (words) WITH (fastupdate = off);

-- A bucket follows from the chat, the call or the organization. Without that knowledge the planner would multiply their
-- selectivities, take each chat for a small one, and read and sort all its messages for each page.
CREATE STATISTICS members_keys (dependencies) ON bucket, organization_id, chat_id FROM members;
CREATE STATISTICS messages_keys (dependencies) ON bucket, chat_id FROM messages;
CREATE STATISTICS revisions_keys (dependencies) ON bucket, chat_id FROM revisions;
CREATE STATISTICS reactions_keys (dependencies) ON bucket, chat_id FROM reactions;
CREATE STATISTICS mentions_keys (dependencies) ON bucket, chat_id FROM mentions;
CREATE STATISTICS thread_members_keys (dependencies) ON bucket, chat_id FROM thread_members;
CREATE STATISTICS votes_keys (dependencies) ON bucket, chat_id FROM votes;
CREATE STATISTICS notifications_keys (dependencies) ON bucket, organization_id, chat_id FROM notifications;
CREATE STATISTICS reports_keys (dependencies) ON bucket, organization_id, chat_id FROM reports;
CREATE STATISTICS chat_bans_keys (dependencies) ON bucket, organization_id, chat_id FROM chat_bans;
CREATE STATISTICS calls_keys (dependencies) ON bucket, organization_id, chat_id FROM calls;
CREATE STATISTICS call_participants_keys (dependencies) ON bucket, organization_id, call_id FROM call_participants;
CREATE STATISTICS call_signals_keys (dependencies) ON bucket, call_id FROM call_signals;
CREATE STATISTICS removals_keys (dependencies) ON bucket, organization_id FROM removals;

-- The last message that the task has added to the index. There is one row while messages are missing, and none after.
CREATE TABLE search_reindexing (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    bucket integer NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL
);
INSERT INTO search_reindexing (id, bucket, chat_id, seq) VALUES (1, 0, '00000000-0000-0000-0000-000000000000', 0);

-- Chats have other ids, so every client loads everything again.
UPDATE database_epoch SET epoch = floor((random() - 0.5) * power(2, 63))::bigint;
