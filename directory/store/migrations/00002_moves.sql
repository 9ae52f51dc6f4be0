-- +goose Up

-- A change of owner of one tenant, from its beginning to its end and kept after
-- it. When each phase was reached is told by the audit lines of "move/<id>".
--
-- lease is a fencing token: it only grows, and what a mover says counts only with
-- the newest. leased_until is by this database's clock. undone_by is set while
-- another move takes this one back and after it has; it is in this row so that
-- whoever locks the row knows: rows that an undo begins with must not be purged.
CREATE TABLE directory.moves (
	id           text COLLATE "C" PRIMARY KEY CHECK (id ~ '^mv_[0-9a-z]{1,40}$'),
	tenant       bigint NOT NULL REFERENCES directory.tenants,
	source       text COLLATE "C" NOT NULL REFERENCES directory.cells,
	target       text COLLATE "C" NOT NULL REFERENCES directory.cells,
	base         bigint NOT NULL CHECK (base > 0),
	phase        text NOT NULL DEFAULT 'planned',
	previous     text NOT NULL DEFAULT '',
	undoes       text COLLATE "C" REFERENCES directory.moves,
	undone_by    text COLLATE "C" REFERENCES directory.moves,
	wish         text NOT NULL DEFAULT '' CHECK (wish IN ('', 'switch', 'cancel', 'complete')),
	stop_at      text NOT NULL DEFAULT '' CHECK (stop_at IN ('', 'caught_up', 'watching')),
	watch        interval NOT NULL CHECK (watch >= interval '0'),
	lease        bigint NOT NULL DEFAULT 0 CHECK (lease >= 0),
	holder       text NOT NULL DEFAULT '',
	leased_until timestamptz,
	report       json,
	error        text NOT NULL DEFAULT '',
	created_at   timestamptz NOT NULL,
	changed_at   timestamptz NOT NULL,
	watch_ends   timestamptz,
	CHECK (source <> target),
	CHECK ((holder = '') = (leased_until IS NULL)),
	CHECK (undoes <> id AND undone_by <> id),
	CHECK (phase <> 'undone' OR undone_by IS NOT NULL),
	CHECK (watch_ends IS NULL OR phase IN ('watching', 'completed', 'undone')),
	-- The legal transitions, as in directory/move.go.
	CHECK ((previous, phase) IN (
		('', 'planned'),
		('planned', 'reserved'), ('reserved', 'armed'), ('armed', 'copied'), ('armed', 'frozen'),
		('copied', 'caught_up'), ('caught_up', 'copied'), ('caught_up', 'frozen'),
		('frozen', 'staged'), ('frozen', 'decided'), ('staged', 'decided'),
		('decided', 'activated'), ('activated', 'watching'), ('watching', 'completed'), ('watching', 'undone'),
		('planned', 'aborting'), ('reserved', 'aborting'), ('armed', 'aborting'), ('copied', 'aborting'),
		('caught_up', 'aborting'), ('frozen', 'aborting'), ('staged', 'aborting'), ('aborting', 'aborted')))
);

-- At most one move of a tenant is under way, and at most one watches over it;
-- both at once are a move and the one that undoes it.
CREATE UNIQUE INDEX moves_under_way ON directory.moves (tenant)
	WHERE phase NOT IN ('watching', 'completed', 'aborted', 'undone');
CREATE UNIQUE INDEX moves_watching ON directory.moves (tenant) WHERE phase = 'watching';
-- What movers look through for work, and a tenant's history.
CREATE INDEX moves_open ON directory.moves (created_at, id) WHERE phase NOT IN ('completed', 'aborted', 'undone');
CREATE INDEX moves_tenant ON directory.moves (tenant, created_at);

-- +goose Down
DROP TABLE directory.moves;
