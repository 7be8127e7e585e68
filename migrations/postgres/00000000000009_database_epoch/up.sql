-- A number that the cursors of feeds contain. It is renewed when an older state of the database is restored, so that a
-- cursor from before is recognised: the versions after the restored state are given to other changes. There is one row.
CREATE TABLE database_epoch (
    id integer NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch bigint NOT NULL
);
INSERT INTO database_epoch (id, epoch) VALUES (1, floor((random() - 0.5) * power(2, 63))::bigint);
