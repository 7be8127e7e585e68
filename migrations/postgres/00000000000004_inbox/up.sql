-- The times of the last change of chats and notifications, from which an inbox feed resumes.

-- When the chat's version last increased.
ALTER TABLE chats ADD COLUMN changed_at timestamptz;
UPDATE chats SET changed_at = last_activity_at;
ALTER TABLE chats ALTER COLUMN changed_at SET NOT NULL;

CREATE INDEX members_left ON members (organization_id, user_id, left_at) WHERE left_at IS NOT NULL;
CREATE INDEX notifications_created ON notifications (organization_id, user_id, created_at);
-- Serves unread notifications by id, and read ones by the time at which they were read.
CREATE INDEX notifications_read ON notifications (organization_id, user_id, read_at, id);
DROP INDEX notifications_unread;

-- The users who lost a chat by its deletion; kept for as long as a cursor may be old.
CREATE TABLE removals (
    organization_id text NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL,
    chat_id uuid NOT NULL,
    PRIMARY KEY (organization_id, user_id, removed_at, chat_id)
);
CREATE INDEX removals_by_age ON removals (removed_at);
