-- +goose Up

-- The one counter of the table's states. A mutation that routers have to know
-- takes this row last and holds it until it commits: versions have no gaps and
-- grow in commit order. Changes can continue from oldest or later.
CREATE TABLE directory.version (
	one     boolean PRIMARY KEY DEFAULT true CHECK (one),
	version bigint NOT NULL DEFAULT 0,
	oldest  bigint NOT NULL DEFAULT 0,
	CHECK (0 <= oldest AND oldest <= version)
);
INSERT INTO directory.version DEFAULT VALUES;

-- tenants counts the tenants placed here that are not deleted; it changes in the
-- transaction that places them, under this row's lock.
CREATE TABLE directory.cells (
	id          text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z][a-z0-9-]{0,30}$'),
	state       text NOT NULL CHECK (state IN ('provisioning', 'ready', 'cordoned', 'draining', 'drained', 'quarantine', 'retired')),
	address     text NOT NULL,
	admin       text NOT NULL DEFAULT '',
	locality    text NOT NULL DEFAULT '',
	tier        text NOT NULL DEFAULT '',
	capacity    integer NOT NULL CHECK (capacity > 0),
	tenants     integer NOT NULL DEFAULT 0 CHECK (tenants >= 0),
	incarnation text NOT NULL DEFAULT '',
	CHECK (tenants = 0 OR state NOT IN ('drained', 'retired'))
);

-- state is the owner's; suspended covers it. A deleted tenant stays as a row, so
-- that its number is never given again and old tables can be brought up to date.
CREATE TABLE directory.tenants (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	slug       text COLLATE "C" NOT NULL,
	name       text NOT NULL DEFAULT '',
	locality   text NOT NULL DEFAULT '',
	tier       text NOT NULL DEFAULT '',
	pinned     boolean NOT NULL DEFAULT false,
	cell       text COLLATE "C" NOT NULL REFERENCES directory.cells,
	epoch      bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
	state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'cutover', 'deleted')),
	suspended  boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX tenants_slug ON directory.tenants (slug) WHERE state <> 'deleted';
CREATE INDEX tenants_cell ON directory.tenants (cell, id) WHERE state <> 'deleted';

-- The primary key is what makes a name's owner unique across all cells. A
-- tenant's hosts are its claims of kind host; there is no other list.
CREATE TABLE directory.claims (
	kind   text COLLATE "C" NOT NULL,
	name   text COLLATE "C" NOT NULL,
	tenant bigint NOT NULL REFERENCES directory.tenants,
	PRIMARY KEY (kind, name)
);
CREATE INDEX claims_tenant ON directory.claims (tenant, kind, name);

-- What each version changed: one tenant or one cell.
CREATE TABLE directory.changes (
	version bigint PRIMARY KEY,
	tenant  bigint REFERENCES directory.tenants,
	cell    text COLLATE "C" REFERENCES directory.cells,
	CHECK ((tenant IS NULL) <> (cell IS NULL))
);

CREATE TABLE directory.audit (
	id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at      timestamptz NOT NULL DEFAULT now(),
	actor   text NOT NULL,
	action  text NOT NULL,
	subject text COLLATE "C" NOT NULL,
	before  jsonb,
	after   jsonb
);
CREATE INDEX audit_subject ON directory.audit (subject, id);

-- Who is alive. Unlogged: a heartbeat costs no flush to disk, and after a crash
-- everybody is heard of again within seconds. A cell may be announced before it
-- is registered, so there is no reference.
CREATE UNLOGGED TABLE directory.heartbeats (
	cell        text COLLATE "C" PRIMARY KEY,
	address     text NOT NULL,
	incarnation text NOT NULL,
	seen_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNLOGGED TABLE directory.routers (
	id      text COLLATE "C" PRIMARY KEY,
	acked   bigint NOT NULL,
	seen_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE directory.routers, directory.heartbeats, directory.audit, directory.changes,
	directory.claims, directory.tenants, directory.cells, directory.version;
