-- +goose Up

-- When the version was last lifted above what a router serves: see directory.LiftedBy.
ALTER TABLE directory.version ADD COLUMN lifted_at timestamptz;

-- +goose Down
ALTER TABLE directory.version DROP COLUMN lifted_at;
