-- +goose Up

-- home is the database that the record was last found in, and home_at since when: see
-- directory.LiftWithin. '' is not known yet: no cell has to register again for that.
ALTER TABLE directory.version ADD COLUMN home text NOT NULL DEFAULT '', ADD COLUMN home_at timestamptz;

-- announced is the address that the cell itself said last, which address is not after a
-- roll-out. unheard says that the record has changed its database and that the cell has
-- not said since where it is.
ALTER TABLE directory.cells ADD COLUMN announced text NOT NULL DEFAULT '', ADD COLUMN unheard boolean NOT NULL DEFAULT false;
UPDATE directory.cells SET announced = address WHERE incarnation <> '';

-- +goose Down
ALTER TABLE directory.cells DROP COLUMN unheard, DROP COLUMN announced;
ALTER TABLE directory.version DROP COLUMN home_at, DROP COLUMN home;
