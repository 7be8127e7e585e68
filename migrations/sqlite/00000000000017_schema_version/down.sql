DROP INDEX organizations_by_move;
ALTER TABLE organizations DROP COLUMN moved_to;
ALTER TABLE organizations DROP COLUMN move_revision;
ALTER TABLE organizations DROP COLUMN move_state;
DROP TABLE schema_version;
