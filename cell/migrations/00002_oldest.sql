-- +goose Up
-- A sweep that was away for long has very many keys before it. It goes by tenants and
-- not by keys, and looks at the oldest of each. POSTs with a key wait while the index is
-- made; what copies waits for nothing.
CREATE INDEX idempotency_oldest ON api.idempotency (tenant_id, created_at);

-- +goose StatementBegin
-- Tenants that may act here and have keys older than keep.
CREATE OR REPLACE FUNCTION cell.idempotency_expired(keep interval, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, f.epoch
      FROM cell.fence f
     CROSS JOIN LATERAL (SELECT i.created_at FROM api.idempotency i
                          WHERE i.tenant_id = f.tenant_id
                          ORDER BY i.created_at LIMIT 1) oldest
     WHERE f.state = 'active' AND oldest.created_at < now() - keep
     LIMIT max;
END;
-- +goose StatementEnd
