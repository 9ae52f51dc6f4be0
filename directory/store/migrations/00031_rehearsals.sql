-- +goose Up

-- Moves that are only tried. Apart from directory.moves: what looks for a tenant's or a cell's moves
-- must not find them, nor a mover of the release before, which would make them. move is JSON of
-- directory.Move as it would have been recorded; lease and leased_until are as in directory.moves.
CREATE TABLE directory.rehearsals (
	id           text COLLATE "C" PRIMARY KEY CHECK (id ~ '^rh_[0-9a-z]{1,40}$'),
	move         json NOT NULL,
	lease        bigint NOT NULL DEFAULT 0 CHECK (lease >= 0),
	holder       text NOT NULL DEFAULT '',
	leased_until timestamptz,
	report       json,
	created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
	ended_at     timestamptz,
	CHECK ((holder = '') = (leased_until IS NULL)),
	CHECK ((report IS NULL) = (ended_at IS NULL))
);
-- What movers look through for work.
CREATE INDEX rehearsals_open ON directory.rehearsals (created_at, id) WHERE ended_at IS NULL;

-- +goose Down
DROP TABLE directory.rehearsals;
