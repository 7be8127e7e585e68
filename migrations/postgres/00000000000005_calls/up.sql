-- Calls, their participants, and the signals by which devices connect.

CREATE TABLE calls (
    id uuid NOT NULL PRIMARY KEY,
    organization_id text NOT NULL,
    chat_id uuid NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
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
    forgotten bigint NOT NULL DEFAULT 0
);
-- A chat has at most one call that has not ended.
CREATE UNIQUE INDEX calls_live ON calls (chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_by_organization ON calls (organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (chat_id);

CREATE TABLE call_participants (
    call_id uuid NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
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
    PRIMARY KEY (call_id, user_id)
);
-- Ids ascend with time, so descending ids are newest first.
CREATE INDEX call_participants_by_user ON call_participants (organization_id, user_id, call_id);

CREATE INDEX call_participants_ringing ON call_participants (organization_id, user_id) WHERE status = 'ringing';
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;

-- The signals of a call, kept until it ends.
CREATE TABLE call_signals (
    call_id uuid NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    from_id text COLLATE "C" NOT NULL,
    to_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (call_id, version)
);
CREATE INDEX call_signals_to ON call_signals (call_id, to_id, version);

ALTER TABLE notifications ADD COLUMN call_id uuid;
