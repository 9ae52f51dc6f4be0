-- Compaction reads all of a tenant's notes for each piece of them, under the tenant's lock.
-- Where hardly any key was noted twice that is for nothing, once a minute.
-- +goose Up

-- +goose StatementBegin
-- The armed tenants that have more notes than that, of which one in ten at least is of a key
-- that was noted before, and how many notes they have.
CREATE OR REPLACE FUNCTION cell.noted(above bigint) RETURNS TABLE (tenant_id bigint, notes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, n.notes
      FROM cell.fence f
     CROSS JOIN LATERAL (SELECT count(*) AS notes FROM cell.dirty d WHERE d.tenant_id = f.tenant_id) n
     CROSS JOIN LATERAL (SELECT count(*) AS keys FROM (SELECT FROM cell.dirty d WHERE d.tenant_id = f.tenant_id AND n.notes > above GROUP BY d.tbl, d.pk) k) u
     WHERE f.capture AND f.state = 'active' AND n.notes > above AND 10 * (n.notes - u.keys) >= n.notes;
END;
-- +goose StatementEnd
