-- +goose Up

-- What cells have measured of their tenants; each report replaces its cell's rows.
-- Tenant 0 is all others together: there is no foreign key. Losing it loses nothing.
CREATE TABLE directory.loads (
	cell                text COLLATE "C" NOT NULL REFERENCES directory.cells,
	tenant              bigint NOT NULL CHECK (tenant >= 0),
	requests_per_second double precision NOT NULL CHECK (requests_per_second >= 0),
	busy                double precision NOT NULL CHECK (busy >= 0),
	at                  timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (cell, tenant)
);

-- +goose Down
DROP TABLE directory.loads;
