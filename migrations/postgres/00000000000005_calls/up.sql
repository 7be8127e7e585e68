-- Calls, who is in them, and what devices tell each other to connect.

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
    -- Milliseconds from the answer to the end.
    talked bigint NOT NULL DEFAULT 0,
    -- When it next has to be looked at, but for who may be lost by then; null where nothing is to happen.
    due_at timestamptz,
    -- The number of its last change or signal, and of the last change of what is its own.
    version bigint NOT NULL,
    own_version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    -- Signals up to this number are kept no more.
    forgotten bigint NOT NULL DEFAULT 0
);
-- A chat has one call at a time.
CREATE UNIQUE INDEX calls_live ON calls (chat_id) WHERE ended_at IS NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_by_organization ON calls (organization_id, started_at);
CREATE INDEX calls_by_chat ON calls (chat_id);

CREATE TABLE call_participants (
    call_id uuid NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL,
    organization_id text NOT NULL,
    -- Their place among those who came.
    place integer NOT NULL,
    device_id text NOT NULL,
    status text NOT NULL,
    joined_at timestamptz,
    left_at timestamptz,
    audio boolean NOT NULL,
    video boolean NOT NULL,
    screen boolean NOT NULL,
    version bigint NOT NULL,
    -- The call's version when they joined: signals of before are for nobody.
    joined_version bigint NOT NULL,
    -- Their signals up to this number are kept no more.
    forgotten bigint NOT NULL DEFAULT 0,
    -- While they are in: who has not listened again by then has left.
    expires_at timestamptz,
    listening boolean NOT NULL,
    -- Sums of what their devices reported.
    reports integer NOT NULL,
    round_trip_ms double precision NOT NULL,
    packet_loss_percent double precision NOT NULL,
    bitrate_kbps double precision NOT NULL,
    PRIMARY KEY (call_id, user_id)
);
-- Ids rise with time: newest first is by id.
CREATE INDEX call_participants_by_user ON call_participants (organization_id, user_id, call_id);

CREATE INDEX call_participants_ringing ON call_participants (organization_id, user_id) WHERE status = 'ringing';
CREATE INDEX call_participants_in ON call_participants (expires_at) WHERE expires_at IS NOT NULL;

-- For as long as the call lasts.
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
