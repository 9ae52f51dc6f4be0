-- +goose Up

-- The last part in a roll-out that the router could not serve: a directory.Refusal.
ALTER TABLE directory.routers ADD COLUMN refused jsonb;

-- +goose Down
ALTER TABLE directory.routers DROP COLUMN refused;
