-- +goose Up

-- home is the database that the record was last found in, and home_at since when: see
-- directory.LiftWithin. '' is not known yet: no cell has to register again for that.
ALTER TABLE directory.version ADD COLUMN home text NOT NULL DEFAULT '', ADD COLUMN home_at timestamptz;

-- +goose Down
ALTER TABLE directory.version DROP COLUMN home_at, DROP COLUMN home;
