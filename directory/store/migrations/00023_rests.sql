-- +goose Up

-- Until when no mover that looks for work is given the move: a cell of it does not answer.
ALTER TABLE directory.moves ADD COLUMN rests_until timestamptz;

-- +goose Down
ALTER TABLE directory.moves DROP COLUMN rests_until;
