-- The version of the schema, and the oldest versions of the schema that a server has to know to use it: `oldest_reader`
-- to read, `oldest_writer` to write. A migration that only extends the schema leaves both as they are, so that servers
-- of the release before still run; one that removes something from it raises them. There is one row.
CREATE TABLE schema_version (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The number of the newest migration, which is written after the migrations were run.
    version INTEGER NOT NULL,
    oldest_reader INTEGER NOT NULL,
    oldest_writer INTEGER NOT NULL
) STRICT;
INSERT INTO schema_version (id, version, oldest_reader, oldest_writer) VALUES (1, 17, 17, 17);

-- Organisations that are on their way to another database: 'frozen', 'importing', 'moved' or 'deleting'; null for one
-- that is served.
ALTER TABLE organizations ADD COLUMN move_state TEXT;
-- Ascends over all organisations with each change of a state, so that servers read what changed since they last looked.
ALTER TABLE organizations ADD COLUMN move_revision INTEGER;
-- The address at which a moved organisation is served.
ALTER TABLE organizations ADD COLUMN moved_to TEXT;
CREATE INDEX organizations_by_move ON organizations (move_revision) WHERE move_revision IS NOT NULL;
