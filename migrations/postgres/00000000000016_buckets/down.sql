-- Chats keep their ids, which an older server accepts. The nonces of chats and the versions of deleted chats are lost.

ALTER TABLE chats RENAME TO new_chats;
ALTER INDEX chats_pkey RENAME TO new_chats_pkey;
ALTER TABLE members RENAME TO new_members;
ALTER INDEX members_pkey RENAME TO new_members_pkey;
ALTER TABLE messages RENAME TO new_messages;
ALTER INDEX messages_pkey RENAME TO new_messages_pkey;
ALTER TABLE revisions RENAME TO new_revisions;
ALTER INDEX revisions_pkey RENAME TO new_revisions_pkey;
ALTER TABLE reactions RENAME TO new_reactions;
ALTER INDEX reactions_pkey RENAME TO new_reactions_pkey;
ALTER TABLE mentions RENAME TO new_mentions;
ALTER INDEX mentions_pkey RENAME TO new_mentions_pkey;
ALTER TABLE thread_members RENAME TO new_thread_members;
ALTER INDEX thread_members_pkey RENAME TO new_thread_members_pkey;
ALTER TABLE votes RENAME TO new_votes;
ALTER INDEX votes_pkey RENAME TO new_votes_pkey;
ALTER TABLE notifications RENAME TO new_notifications;
ALTER INDEX notifications_pkey RENAME TO new_notifications_pkey;
ALTER TABLE reports RENAME TO new_reports;
ALTER INDEX reports_pkey RENAME TO new_reports_pkey;
ALTER TABLE chat_bans RENAME TO new_chat_bans;
ALTER INDEX chat_bans_pkey RENAME TO new_chat_bans_pkey;
ALTER TABLE calls RENAME TO new_calls;
ALTER INDEX calls_pkey RENAME TO new_calls_pkey;
ALTER TABLE call_participants RENAME TO new_call_participants;
ALTER INDEX call_participants_pkey RENAME TO new_call_participants_pkey;
ALTER TABLE call_signals RENAME TO new_call_signals;
ALTER INDEX call_signals_pkey RENAME TO new_call_signals_pkey;
ALTER TABLE removals RENAME TO new_removals;
ALTER INDEX removals_pkey RENAME TO new_removals_pkey;
-- An older server fills the full-text index again while it serves.
DROP TABLE search_reindexing;

CREATE TABLE chats (
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
    version bigint NOT NULL,
    details_version bigint NOT NULL,
    last_seq bigint NOT NULL,
    member_count integer NOT NULL,
    direct_key text,
    nonce text,
    fingerprint bytea,
    archived_at timestamptz,
    resource_type text,
    resource_id text,
    changed_at timestamptz NOT NULL,
    last_message_seq bigint NOT NULL DEFAULT 0,
    history_for_new_members text NOT NULL DEFAULT 'all',
    title_search text,
    PRIMARY KEY (id)
) WITH (fillfactor = 70);

CREATE TABLE members (
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
    moved_at timestamptz,
    shown_at timestamptz,
    history_after_seq bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (chat_id, user_id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) WITH (fillfactor = 70);

CREATE TABLE messages (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL,
    sender_id text COLLATE "C",
    nonce text,
    fingerprint bytea,
    text text,
    reply_to_seq bigint,
    created_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    thread_root_seq bigint,
    in_timeline boolean NOT NULL DEFAULT true,
    reply_count integer NOT NULL DEFAULT 0,
    mentions_everyone boolean NOT NULL DEFAULT false,
    content jsonb,
    pinned_at timestamptz,
    pinned_by text,
    PRIMARY KEY (chat_id, seq),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
);

CREATE TABLE revisions (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    version bigint NOT NULL,
    text text NOT NULL,
    edited_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, version),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE reactions (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    emoji text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, emoji, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE mentions (
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    thread_root_seq bigint,
    PRIMARY KEY (chat_id, user_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE thread_members (
    chat_id uuid NOT NULL,
    root_seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    is_following boolean NOT NULL,
    last_read_seq bigint NOT NULL,
    follows_after_seq bigint NOT NULL,
    marked_read_at timestamptz,
    PRIMARY KEY (chat_id, root_seq, user_id),
    FOREIGN KEY (chat_id, root_seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE votes (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    option integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (chat_id, seq, option, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE notifications (
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
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
);

CREATE TABLE reports (
    id uuid NOT NULL,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    reporter_id text NOT NULL,
    reason text NOT NULL,
    text text,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    resolution text,
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE,
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

CREATE TABLE chat_bans (
    organization_id text NOT NULL,
    chat_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    banned_by text NOT NULL,
    banned_at timestamptz NOT NULL,
    reason text,
    PRIMARY KEY (chat_id, user_id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
);

CREATE TABLE calls (
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
    talked bigint NOT NULL DEFAULT 0,
    due_at timestamptz,
    version bigint NOT NULL,
    own_version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    forgotten bigint NOT NULL DEFAULT 0,
    signal_bytes bigint NOT NULL DEFAULT 0,
    host_id text NOT NULL DEFAULT '',
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
);

CREATE TABLE call_participants (
    call_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    organization_id text NOT NULL,
    place integer NOT NULL,
    device_id text NOT NULL,
    status text NOT NULL,
    joined_at timestamptz,
    left_at timestamptz,
    audio boolean NOT NULL,
    video boolean NOT NULL,
    screen boolean NOT NULL,
    version bigint NOT NULL,
    joined_version bigint NOT NULL,
    forgotten bigint NOT NULL DEFAULT 0,
    expires_at timestamptz,
    listening boolean NOT NULL,
    reports integer NOT NULL,
    round_trip_ms double precision NOT NULL,
    packet_loss_percent double precision NOT NULL,
    bitrate_kbps double precision NOT NULL,
    joins integer NOT NULL DEFAULT 0,
    departure text,
    feed_id uuid,
    decline_reason text,
    barred boolean NOT NULL DEFAULT false,
    PRIMARY KEY (call_id, user_id),
    FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
);

CREATE TABLE call_signals (
    call_id uuid NOT NULL,
    version bigint NOT NULL,
    from_id text COLLATE "C" NOT NULL,
    to_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    bytes bigint NOT NULL DEFAULT 0,
    nonce text,
    fingerprint bytea,
    PRIMARY KEY (call_id, version),
    FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
);

CREATE TABLE removals (
    organization_id text NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL,
    chat_id uuid NOT NULL,
    PRIMARY KEY (organization_id, user_id, removed_at, chat_id)
);

CREATE TABLE message_words (
    chat_id uuid NOT NULL,
    seq bigint NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (chat_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
);

INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy,
    slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count,
    direct_key, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq,
    history_for_new_members, title_search)
SELECT id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds,
    created_by, created_at, last_activity_at, version, details_version, last_seq, member_count,
    CASE WHEN kind = 'direct' THEN (
        SELECT min(user_id) || E'\n' || max(user_id) FROM new_members
        WHERE new_members.bucket = new_chats.bucket AND new_members.chat_id = new_chats.id
    ) END,
    fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members,
    title_search
FROM new_chats;

INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq,
    last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level,
    pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
SELECT chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at,
    last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned,
    marked_unread, draft, moved_at, shown_at, history_after_seq
FROM new_members;

INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at,
    edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at,
    pinned_by)
SELECT chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at,
    deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by
FROM new_messages;

INSERT INTO revisions (chat_id, seq, version, text, edited_at)
SELECT chat_id, seq, version, text, edited_at
FROM new_revisions;

INSERT INTO reactions (chat_id, seq, emoji, user_id, created_at)
SELECT chat_id, seq, emoji, user_id, created_at
FROM new_reactions;

INSERT INTO mentions (chat_id, user_id, seq, thread_root_seq)
SELECT chat_id, user_id, seq, thread_root_seq
FROM new_mentions;

INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq,
    marked_read_at)
SELECT chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at
FROM new_thread_members;

INSERT INTO votes (chat_id, seq, option, user_id, created_at)
SELECT chat_id, seq, option, user_id, created_at
FROM new_votes;

INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
SELECT id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id
FROM new_notifications;

INSERT INTO reports (id, organization_id, chat_id, seq, reporter_id, reason, text, created_at, resolved_at,
    resolved_by, resolution)
SELECT id, organization_id, chat_id, seq, reporter_id, reason, text, created_at, resolved_at, resolved_by, resolution
FROM new_reports;

INSERT INTO chat_bans (organization_id, chat_id, user_id, banned_by, banned_at, reason)
SELECT organization_id, chat_id, user_id, banned_by, banned_at, reason
FROM new_chat_bans;

INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since,
    ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
SELECT id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at,
    end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id
FROM new_calls;

INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio,
    video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms,
    packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
SELECT call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version,
    joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps,
    joins, departure, feed_id, decline_reason, barred
FROM new_call_participants;

INSERT INTO call_signals (call_id, version, from_id, to_id, kind, payload, bytes, nonce, fingerprint)
SELECT call_id, version, from_id, to_id, kind, payload, bytes, nonce, fingerprint
FROM new_call_signals;

INSERT INTO removals (organization_id, user_id, removed_at, chat_id)
SELECT organization_id, user_id, removed_at, chat_id
FROM new_removals;

DROP TABLE new_removals;
DROP TABLE new_call_signals;
DROP TABLE new_call_participants;
DROP TABLE new_calls;
DROP TABLE new_chat_bans;
DROP TABLE new_reports;
DROP TABLE new_notifications;
DROP TABLE new_votes;
DROP TABLE new_thread_members;
DROP TABLE new_mentions;
DROP TABLE new_reactions;
DROP TABLE new_revisions;
DROP TABLE new_messages;
DROP TABLE new_members;
DROP TABLE new_chats;
DROP TABLE deleted_chats;

CREATE UNIQUE INDEX chats_direct ON chats (organization_id, direct_key) WHERE direct_key IS NOT NULL;
CREATE UNIQUE INDEX chats_nonce ON chats (organization_id, created_by, nonce) WHERE nonce IS NOT NULL;
CREATE UNIQUE INDEX chats_resource ON chats (organization_id, resource_type, resource_id)
    WHERE resource_id IS NOT NULL;
CREATE INDEX chats_channels ON chats (organization_id) WHERE kind = 'channel';
CREATE INDEX members_by_user ON members (organization_id, user_id) WHERE left_at IS NULL;
CREATE INDEX members_left ON members (organization_id, user_id, left_at) WHERE left_at IS NOT NULL;
CREATE INDEX members_by_version ON members (chat_id, version);
CREATE INDEX messages_by_version ON messages (chat_id, version);
CREATE UNIQUE INDEX messages_nonce ON messages (chat_id, nonce, sender_id) WHERE nonce IS NOT NULL;
CREATE INDEX messages_timeline ON messages (chat_id, seq) WHERE in_timeline;
CREATE INDEX messages_threads ON messages (chat_id, thread_root_seq, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX messages_pinned ON messages (chat_id, pinned_at, seq) WHERE pinned_at IS NOT NULL;
CREATE INDEX messages_to_everyone ON messages (chat_id, seq) WHERE mentions_everyone;
CREATE INDEX messages_to_everyone_in_threads ON messages (chat_id, seq)
    WHERE mentions_everyone AND NOT in_timeline;
CREATE INDEX mentions_by_message ON mentions (chat_id, seq);
CREATE INDEX mentions_in_threads ON mentions (chat_id, user_id, seq) WHERE thread_root_seq IS NOT NULL;
CREATE INDEX thread_members_by_user ON thread_members (chat_id, user_id, marked_read_at);
CREATE INDEX notifications_by_user ON notifications (organization_id, user_id, id);
CREATE INDEX notifications_created ON notifications (organization_id, user_id, created_at);
CREATE INDEX notifications_read ON notifications (organization_id, user_id, read_at, id);
CREATE INDEX notifications_unread_of_chat ON notifications (chat_id, user_id) WHERE read_at IS NULL;
CREATE INDEX notifications_by_message ON notifications (chat_id, seq, user_id);
CREATE UNIQUE INDEX reports_by_message ON reports (chat_id, seq, reporter_id);
CREATE INDEX reports_by_organization ON reports (organization_id, id);
CREATE INDEX reports_open ON reports (organization_id, id) WHERE resolved_at IS NULL;
CREATE INDEX chat_bans_by_time ON chat_bans (chat_id, banned_at, user_id);
CREATE INDEX chat_bans_by_user ON chat_bans (organization_id, user_id);
CREATE UNIQUE INDEX calls_live ON calls (chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_by_organization ON calls (organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (chat_id);
CREATE INDEX call_participants_by_user ON call_participants (organization_id, user_id, call_id);
CREATE INDEX call_participants_ringing ON call_participants (organization_id, user_id)
    WHERE status = 'ringing';
CREATE INDEX call_participants_joined ON call_participants (organization_id, user_id)
    WHERE status = 'joined';
CREATE INDEX call_signals_to ON call_signals (call_id, to_id, version);
CREATE INDEX call_signals_nonce ON call_signals (call_id, from_id, nonce) WHERE nonce IS NOT NULL;
CREATE INDEX chats_without_search ON chats (id) WHERE title_search IS NULL AND title IS NOT NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_changed ON calls (changed_at);
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX removals_by_age ON removals (removed_at);
CREATE INDEX message_words_by_word ON message_words USING gin (words);

CREATE TABLE search_reindexing (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    chat_id uuid NOT NULL,
    seq bigint NOT NULL
);
INSERT INTO search_reindexing (id, chat_id, seq) VALUES (1, '00000000-0000-0000-0000-000000000000', 0);
