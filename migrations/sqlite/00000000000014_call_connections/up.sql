-- Joins of a call as connections, and the size of its signals.

-- The number of times that the participant joined, and why they last left.
ALTER TABLE call_participants ADD COLUMN joins INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_participants ADD COLUMN departure TEXT;
UPDATE call_participants SET joins = 1 WHERE joined_version > 0;
CREATE INDEX call_participants_joined ON call_participants (organization_id, user_id) WHERE status = 'joined';

-- The size of the call's signals that are kept.
ALTER TABLE calls ADD COLUMN signal_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_signals ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
-- The sender's name for the signal, so that a repeated request sends it once.
ALTER TABLE call_signals ADD COLUMN nonce TEXT;
-- A hash of the signal, which tells a repeated request from another one with the same nonce.
ALTER TABLE call_signals ADD COLUMN fingerprint BLOB;
CREATE INDEX call_signals_nonce ON call_signals (call_id, from_id, nonce) WHERE nonce IS NOT NULL;
