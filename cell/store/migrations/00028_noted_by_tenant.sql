-- Whose notes are worth compacting is asked tenant by tenant, and of few of them how many of a
-- tenant's notes are of one key. One statement about all of them took longer than any may, in a
-- cell whose tenants have all been moved there and are watched over, and then nobody's were compacted.
-- +goose Up

DROP FUNCTION cell.noted(bigint);

-- +goose StatementBegin
-- The tenants that are armed and served here.
CREATE FUNCTION cell.armed() RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id FROM cell.fence f WHERE f.capture AND f.state = 'active' ORDER BY f.tenant_id;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- How many notes a tenant has, counted up to so many.
CREATE FUNCTION cell.notes(tenant bigint, most bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT count(*) FROM (SELECT FROM cell.dirty d WHERE d.tenant_id = tenant LIMIT most) n;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- How many notes a tenant has, and of how many keys: reads them all.
CREATE FUNCTION cell.noted(tenant bigint) RETURNS TABLE (notes bigint, keys bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(sum(k.n), 0)::bigint, count(*) FROM (SELECT count(*) AS n FROM cell.dirty d WHERE d.tenant_id = tenant GROUP BY d.tbl, d.pk) k;
END;
-- +goose StatementEnd

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
ALTER FUNCTION cell.armed() OWNER TO cell_fence;
ALTER FUNCTION cell.notes(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.noted(bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.armed(), cell.notes(bigint, bigint), cell.noted(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.armed(), cell.notes(bigint, bigint), cell.noted(bigint) TO cell_app;
