-- +goose Up

-- Changes of many routes that routers get in waves before the record has them, and
-- kept after it. Who locks an open one decides alone what becomes of it; that lock
-- is taken before any other.
CREATE TABLE directory.rollouts (
	id         text COLLATE "C" PRIMARY KEY CHECK (id ~ '^ro_[0-9a-z]{1,40}$'),
	state      text NOT NULL CHECK (state IN ('running', 'halted', 'done', 'aborted')),
	wave       text NOT NULL CHECK (wave IN ('canary', 'tenth', 'all')),
	round      integer NOT NULL CHECK (round > 0),
	routers    text[] NOT NULL CHECK (cardinality(routers) > 0),
	changes    jsonb NOT NULL,
	before     jsonb NOT NULL,
	why        text NOT NULL,
	actor      text NOT NULL,
	reason     text NOT NULL DEFAULT '',
	soak       bigint NOT NULL CHECK (soak > 0),
	requests   bigint NOT NULL CHECK (requests >= 0),
	margin     double precision NOT NULL CHECK (margin BETWEEN 0 AND 1),
	base       double precision NOT NULL DEFAULT 0 CHECK (base BETWEEN 0 AND 1),
	created_at timestamptz NOT NULL,
	opened_at  timestamptz NOT NULL,
	changed_at timestamptz NOT NULL
);
-- At most one is open: two would be laid over each other.
CREATE UNIQUE INDEX rollouts_open ON directory.rollouts ((true)) WHERE state IN ('running', 'halted');
CREATE INDEX rollouts_created ON directory.rollouts (created_at DESC, id);

-- What a router says of its part; staged is whether it says anything of it.
ALTER TABLE directory.routers
	ADD COLUMN staged   boolean NOT NULL DEFAULT false,
	ADD COLUMN rollout  text NOT NULL DEFAULT '',
	ADD COLUMN round    integer NOT NULL DEFAULT 0,
	ADD COLUMN requests bigint NOT NULL DEFAULT 0,
	ADD COLUMN failed   bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE directory.routers
	DROP COLUMN staged, DROP COLUMN rollout, DROP COLUMN round, DROP COLUMN requests, DROP COLUMN failed;
DROP TABLE directory.rollouts;
