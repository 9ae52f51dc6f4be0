-- +goose Up

-- announced is the address that the cell itself said last, which address is not after a
-- roll-out. unheard says that the record has changed its database and that the cell has
-- not said since where it is. Apart from 00029: who changes a cell has its row before the
-- version's, and would wait for a migration that has both tables.
ALTER TABLE directory.cells ADD COLUMN announced text NOT NULL DEFAULT '', ADD COLUMN unheard boolean NOT NULL DEFAULT false;
UPDATE directory.cells SET announced = address WHERE incarnation <> '';

-- +goose Down
ALTER TABLE directory.cells DROP COLUMN unheard, DROP COLUMN announced;
