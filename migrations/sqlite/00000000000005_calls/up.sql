-- Calls, who is in them, and what devices tell each other to connect.

CREATE TABLE calls (
    id BLOB NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    chat_id BLOB NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    started_by TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    rings_until INTEGER NOT NULL,
    answered_at INTEGER,
    alone_since INTEGER,
    ended_at INTEGER,
    end_reason TEXT,
    -- Milliseconds from the answer to the end.
    talked INTEGER NOT NULL DEFAULT 0,
    -- When it next has to be looked at, but for who may be lost by then; null where nothing is to happen.
    due_at INTEGER,
    -- The number of its last change or signal, and of the last change of what is its own.
    version INTEGER NOT NULL,
    own_version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- Signals up to this number are kept no more.
    forgotten INTEGER NOT NULL DEFAULT 0
) STRICT;
-- A chat has one call at a time.
CREATE UNIQUE INDEX calls_live ON calls (chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_by_organization ON calls (organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (chat_id);

CREATE TABLE call_participants (
    call_id BLOB NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    -- Their place among those who came.
    place INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    status TEXT NOT NULL,
    joined_at INTEGER,
    left_at INTEGER,
    audio INTEGER NOT NULL,
    video INTEGER NOT NULL,
    screen INTEGER NOT NULL,
    version INTEGER NOT NULL,
    -- The call's version when they joined: signals of before are for nobody.
    joined_version INTEGER NOT NULL,
    -- Their signals up to this number are kept no more.
    forgotten INTEGER NOT NULL DEFAULT 0,
    -- While they are in: who has not listened again by then has left.
    expires_at INTEGER,
    listening INTEGER NOT NULL,
    -- Sums of what their devices reported.
    reports INTEGER NOT NULL,
    round_trip_ms REAL NOT NULL,
    packet_loss_percent REAL NOT NULL,
    bitrate_kbps REAL NOT NULL,
    PRIMARY KEY (call_id, user_id)
) STRICT, WITHOUT ROWID;
-- Ids rise with time: newest first is by id.
CREATE INDEX call_participants_by_user ON call_participants (organization_id, user_id, call_id);

CREATE INDEX call_participants_ringing ON call_participants (organization_id, user_id) WHERE status = 'ringing';
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;

-- For as long as the call lasts.
CREATE TABLE call_signals (
    call_id BLOB NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    from_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (call_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_signals_to ON call_signals (call_id, to_id, version);

ALTER TABLE notifications ADD COLUMN call_id BLOB;
