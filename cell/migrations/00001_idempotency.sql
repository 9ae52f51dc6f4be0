-- +goose Up
-- What a POST with an Idempotency-Key answered, written with its effect. A tenant
-- table: it moves with the tenant, so that a retry after a move is a retry.
CREATE TABLE api.idempotency (
    tenant_id    bigint      NOT NULL,
    key          text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea       NOT NULL CHECK (length(request_hash) = 32),
    status       integer     NOT NULL CHECK (status BETWEEN 200 AND 299),
    headers      jsonb       NOT NULL,
    body         bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);

-- The sweep looks for the oldest, of whatever tenant.
CREATE INDEX idempotency_created_at ON api.idempotency (created_at);

-- cell_scan may see, across tenants, that there is work; never do it.
GRANT USAGE ON SCHEMA api TO cell_scan;
GRANT SELECT ON api.idempotency TO cell_scan;
CREATE POLICY cell_scan ON api.idempotency FOR SELECT TO cell_scan USING (true);

-- +goose StatementBegin
-- Tenants that may act here and have keys older than keep. In schema cell, where
-- alone the audit allows functions that run with their owner's rights.
CREATE FUNCTION cell.idempotency_expired(keep interval, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT f.tenant_id, f.epoch
      FROM api.idempotency i
      JOIN cell.fence f ON f.tenant_id = i.tenant_id AND f.state = 'active'
     WHERE i.created_at < now() - keep
     LIMIT max;
END;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.idempotency_expired(interval, integer) FROM PUBLIC;
GRANT CREATE ON SCHEMA cell TO cell_scan;
ALTER FUNCTION cell.idempotency_expired(interval, integer) OWNER TO cell_scan;
REVOKE CREATE ON SCHEMA cell FROM cell_scan;
GRANT EXECUTE ON FUNCTION cell.idempotency_expired(interval, integer) TO cell_app;

-- +goose Down
DROP FUNCTION cell.idempotency_expired(interval, integer);
DROP TABLE api.idempotency;
