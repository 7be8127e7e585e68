-- Calls, their participants, and the signals by which devices connect.

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
    -- The milliseconds from the answer to the end.
    talked INTEGER NOT NULL DEFAULT 0,
    -- The call's next deadline, without the ends of its participants' leases; null if there is none.
    due_at INTEGER,
    -- The number of the call's last change or signal, and of its last change without signals.
    version INTEGER NOT NULL,
    own_version INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    -- Signals up to this version have been deleted.
    forgotten INTEGER NOT NULL DEFAULT 0
) STRICT;
-- A chat has at most one call that has not ended.
CREATE UNIQUE INDEX calls_live ON calls (chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_by_organization ON calls (organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (chat_id);

CREATE TABLE call_participants (
    call_id BLOB NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
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
    PRIMARY KEY (call_id, user_id)
) STRICT, WITHOUT ROWID;
-- Ids ascend with time, so descending ids are newest first.
CREATE INDEX call_participants_by_user ON call_participants (organization_id, user_id, call_id);

CREATE INDEX call_participants_ringing ON call_participants (organization_id, user_id) WHERE status = 'ringing';
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;

-- The signals of a call, kept until it ends.
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
