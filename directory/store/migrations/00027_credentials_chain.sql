-- +goose Up

-- The credentials' history is a chain of its own, as the table's is: see 00020. What an
-- older release writes has no line here, and nobody can continue across it.
ALTER TABLE directory.credentials ADD COLUMN head bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()))
	CHECK (length(head) = 32);
CREATE TABLE directory.credential_changes (
	version bigint PRIMARY KEY,
	id      text COLLATE "C" NOT NULL, -- of the key or the revoked token
	digest  bytea NOT NULL CHECK (length(digest) = 16)
);

-- +goose Down
DROP TABLE directory.credential_changes;
ALTER TABLE directory.credentials DROP COLUMN head;
