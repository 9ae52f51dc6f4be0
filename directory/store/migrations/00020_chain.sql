-- +goose Up

-- head is the hash of the whole history up to version: see directory.Head. It
-- changes with version, under the same lock, so that however many processes write
-- there is one chain. The first is random: no two records share a history.
-- digest is what a version left its subject as. Versions from before have none,
-- and neither has what an older release writes: nobody can continue across them.
ALTER TABLE directory.version ADD COLUMN head bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()))
	CHECK (length(head) = 32);
ALTER TABLE directory.changes ADD COLUMN digest bytea CHECK (length(digest) = 16);

-- +goose Down
ALTER TABLE directory.changes DROP COLUMN digest;
ALTER TABLE directory.version DROP COLUMN head;
