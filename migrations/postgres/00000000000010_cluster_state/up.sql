-- The state that all nodes of one installation share: one row, which the first node creates.

CREATE TABLE cluster_state (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The key that authenticates messages between nodes. A node that finds no row creates another key.
    message_key bytea NOT NULL,
    -- A time that a node has reached. The clock of a node that starts does not begin before it.
    clock timestamptz NOT NULL
);
