-- +goose Up

-- The one counter of keys and revoked tokens, apart from the table's: nothing that
-- holds back placements holds back a revocation. Like that one it is taken last
-- and held until the commit.
CREATE TABLE directory.credentials (
	one     boolean PRIMARY KEY DEFAULT true CHECK (one),
	version bigint NOT NULL DEFAULT 1,
	oldest  bigint NOT NULL DEFAULT 1,
	CHECK (0 < oldest AND oldest <= version)
);
INSERT INTO directory.credentials DEFAULT VALUES;

-- hash is SHA-256 of a key with 240 random bits: nothing slower is needed. version
-- is when the row last changed. A revoked key stays until it is pruned, so that
-- routers hear of it.
CREATE TABLE directory.keys (
	id         text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z2-7]{16}$'),
	tenant     bigint NOT NULL REFERENCES directory.tenants,
	name       text NOT NULL,
	hash       text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz,
	revoked_at timestamptz,
	version    bigint NOT NULL
);
CREATE INDEX keys_tenant ON directory.keys (tenant, id) WHERE revoked_at IS NULL;
CREATE INDEX keys_version ON directory.keys (version);

CREATE TABLE directory.revoked_tokens (
	id         text COLLATE "C" PRIMARY KEY,
	tenant     bigint NOT NULL REFERENCES directory.tenants,
	expires_at timestamptz NOT NULL,
	version    bigint NOT NULL
);
CREATE INDEX revoked_tokens_version ON directory.revoked_tokens (version);

-- +goose Down
DROP TABLE directory.revoked_tokens, directory.keys, directory.credentials;
