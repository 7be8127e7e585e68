DROP INDEX call_signals_nonce;
ALTER TABLE call_signals DROP COLUMN fingerprint;
ALTER TABLE call_signals DROP COLUMN nonce;
ALTER TABLE call_signals DROP COLUMN bytes;
ALTER TABLE calls DROP COLUMN signal_bytes;
DROP INDEX call_participants_joined;
ALTER TABLE call_participants DROP COLUMN departure;
ALTER TABLE call_participants DROP COLUMN joins;
