-- Chats keep their ids, which an older server accepts. The nonces of chats and the versions of deleted chats are lost.

DELETE FROM sqlite_stat1;
ALTER TABLE chats RENAME TO new_chats;
ALTER TABLE members RENAME TO new_members;
ALTER TABLE messages RENAME TO new_messages;
ALTER TABLE revisions RENAME TO new_revisions;
ALTER TABLE reactions RENAME TO new_reactions;
ALTER TABLE mentions RENAME TO new_mentions;
ALTER TABLE thread_members RENAME TO new_thread_members;
ALTER TABLE votes RENAME TO new_votes;
ALTER TABLE notifications RENAME TO new_notifications;
ALTER TABLE reports RENAME TO new_reports;
ALTER TABLE chat_bans RENAME TO new_chat_bans;
ALTER TABLE calls RENAME TO new_calls;
ALTER TABLE call_participants RENAME TO new_call_participants;
ALTER TABLE call_signals RENAME TO new_call_signals;
ALTER TABLE removals RENAME TO new_removals;
DROP INDEX messages_by_seq;
-- An older server fills the full-text index again while it serves.
INSERT INTO message_words (message_words) VALUES ('delete-all');
DROP TABLE search_reindexing;

CREATE TABLE chats (
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
    version INTEGER NOT NULL,
    details_version INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    direct_key TEXT,
    nonce TEXT,
    fingerprint BLOB,
    archived_at INTEGER,
    resource_type TEXT,
    resource_id TEXT,
    changed_at INTEGER NOT NULL DEFAULT 0,
    last_message_seq INTEGER NOT NULL DEFAULT 0,
    history_for_new_members TEXT NOT NULL DEFAULT 'all',
    title_search TEXT,
    PRIMARY KEY (id)
) STRICT;

CREATE TABLE members (
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
    moved_at INTEGER,
    shown_at INTEGER,
    history_after_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (chat_id, user_id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    pk INTEGER PRIMARY KEY,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sender_id TEXT,
    nonce TEXT,
    fingerprint BLOB,
    text TEXT,
    reply_to_seq INTEGER,
    created_at INTEGER NOT NULL,
    edited_at INTEGER,
    deleted_at INTEGER,
    thread_root_seq INTEGER,
    in_timeline INTEGER NOT NULL DEFAULT TRUE,
    reply_count INTEGER NOT NULL DEFAULT 0,
    mentions_everyone INTEGER NOT NULL DEFAULT FALSE,
    content BLOB,
    pinned_at INTEGER,
    pinned_by TEXT,
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (chat_id, seq);

CREATE TABLE revisions (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    text TEXT NOT NULL,
    edited_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, version),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE reactions (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, emoji, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE mentions (
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    thread_root_seq INTEGER,
    PRIMARY KEY (chat_id, user_id, seq),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE thread_members (
    chat_id BLOB NOT NULL,
    root_seq INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    is_following INTEGER NOT NULL,
    last_read_seq INTEGER NOT NULL,
    follows_after_seq INTEGER NOT NULL,
    marked_read_at INTEGER,
    PRIMARY KEY (chat_id, root_seq, user_id),
    FOREIGN KEY (chat_id, root_seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE votes (
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    option INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (chat_id, seq, option, user_id),
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE notifications (
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
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE reports (
    id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    reporter_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolved_by TEXT,
    resolution TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE,
    FOREIGN KEY (chat_id, seq) REFERENCES messages (chat_id, seq) ON DELETE CASCADE
) STRICT;

CREATE TABLE chat_bans (
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    banned_by TEXT NOT NULL,
    banned_at INTEGER NOT NULL,
    reason TEXT,
    PRIMARY KEY (chat_id, user_id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE calls (
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
    talked INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    version INTEGER NOT NULL,
    own_version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0,
    signal_bytes INTEGER NOT NULL DEFAULT 0,
    host_id TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id),
    FOREIGN KEY (chat_id) REFERENCES chats (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE call_participants (
    call_id BLOB NOT NULL,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    status TEXT NOT NULL,
    joined_at INTEGER,
    left_at INTEGER,
    audio INTEGER NOT NULL,
    video INTEGER NOT NULL,
    screen INTEGER NOT NULL,
    version INTEGER NOT NULL,
    joined_version INTEGER NOT NULL,
    forgotten INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER,
    listening INTEGER NOT NULL,
    reports INTEGER NOT NULL,
    round_trip_ms REAL NOT NULL,
    packet_loss_percent REAL NOT NULL,
    bitrate_kbps REAL NOT NULL,
    joins INTEGER NOT NULL DEFAULT 0,
    departure TEXT,
    feed_id BLOB,
    decline_reason TEXT,
    barred INTEGER NOT NULL DEFAULT FALSE,
    PRIMARY KEY (call_id, user_id),
    FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE call_signals (
    call_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    from_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0,
    nonce TEXT,
    fingerprint BLOB,
    PRIMARY KEY (call_id, version),
    FOREIGN KEY (call_id) REFERENCES calls (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE removals (
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    removed_at INTEGER NOT NULL,
    chat_id BLOB NOT NULL,
    PRIMARY KEY (organization_id, user_id, removed_at, chat_id)
) STRICT, WITHOUT ROWID;

INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy,
    slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count,
    direct_key, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq,
    history_for_new_members, title_search)
SELECT id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds,
    created_by, created_at, last_activity_at, version, details_version, last_seq, member_count,
    CASE WHEN kind = 'direct' THEN (
        SELECT min(user_id) || char(10) || max(user_id) FROM new_members
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

INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at,
    edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at,
    pinned_by)
SELECT pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at,
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

CREATE TRIGGER messages_forget_words AFTER DELETE ON messages
BEGIN
    DELETE FROM message_words WHERE rowid = old.pk;
END;

CREATE TABLE search_reindexing (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    chat_id BLOB NOT NULL,
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO search_reindexing (id, chat_id, seq) VALUES (1, zeroblob(16), 0);
