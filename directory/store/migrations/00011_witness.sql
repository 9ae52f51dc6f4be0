-- +goose Up

-- The greatest number that each cell has told of its database. Unlike a heartbeat
-- it has to survive a crash of this database: it says later whether the cell's has
-- lost something.
CREATE TABLE directory.witnesses (
	cell   text COLLATE "C" PRIMARY KEY REFERENCES directory.cells,
	number bigint NOT NULL CHECK (number >= 0)
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE directory.witnesses;
