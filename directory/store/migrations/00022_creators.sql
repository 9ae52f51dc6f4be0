-- +goose Up

-- Who created the tenant, '' where that was before this column; and how many that
-- are not deleted each one has, which changes in the same transaction.
ALTER TABLE directory.tenants ADD COLUMN creator text COLLATE "C" NOT NULL DEFAULT '';
CREATE TABLE directory.creators (
	creator text COLLATE "C" PRIMARY KEY,
	tenants integer NOT NULL
);

-- +goose Down
DROP TABLE directory.creators;
ALTER TABLE directory.tenants DROP COLUMN creator;
