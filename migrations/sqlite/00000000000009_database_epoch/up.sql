-- A number that the cursors of feeds contain. It is renewed when an older state of the database is restored, so that a
-- cursor from before is recognised: the versions after the restored state are given to other changes. There is one row.
CREATE TABLE database_epoch (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO database_epoch (id, epoch) VALUES (1, random());
