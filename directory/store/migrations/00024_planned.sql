-- +goose Up

-- A move that a plan asked for respects its tenant's pin and group, also when it is
-- tried again.
ALTER TABLE directory.moves ADD COLUMN planned boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE directory.moves DROP COLUMN planned;
