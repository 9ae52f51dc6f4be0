-- +goose Up

-- apart is the tenant's anti-affinity group, '' where it has none; pause_budget is
-- in ns, within a day, and 0 is no limit.
ALTER TABLE directory.tenants
	ADD COLUMN apart text COLLATE "C" NOT NULL DEFAULT '',
	ADD COLUMN pause_budget bigint NOT NULL DEFAULT 0 CHECK (pause_budget >= 0);
CREATE INDEX tenants_apart ON directory.tenants (apart) WHERE apart <> '' AND state <> 'deleted';

-- +goose Down
ALTER TABLE directory.tenants DROP COLUMN apart, DROP COLUMN pause_budget;
