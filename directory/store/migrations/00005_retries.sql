-- +goose Up

-- A move that a bound has aborted (transient) is tried again by a move of its own.
ALTER TABLE directory.moves
	ADD COLUMN transient  boolean NOT NULL DEFAULT false,
	ADD COLUMN attempt    integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
	ADD COLUMN attempts   integer NOT NULL DEFAULT 1 CHECK (attempts > 0),
	ADD COLUMN not_before timestamptz,
	ADD COLUMN retries    text COLLATE "C" REFERENCES directory.moves,
	ADD COLUMN retried_by text COLLATE "C" REFERENCES directory.moves;

-- +goose Down
ALTER TABLE directory.moves
	DROP COLUMN transient, DROP COLUMN attempt, DROP COLUMN attempts,
	DROP COLUMN not_before, DROP COLUMN retries, DROP COLUMN retried_by;
