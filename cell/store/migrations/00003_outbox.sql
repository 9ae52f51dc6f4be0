-- Events, written in the transaction of what they tell about.
-- +goose Up

-- The tenant's sequence: the row is locked from the first event of a transaction
-- to its end, so numbers have no gaps and grow in commit order.
CREATE TABLE cell.outbox_counter (
    tenant_id bigint NOT NULL PRIMARY KEY,
    last      bigint NOT NULL CHECK (last > 0)
) WITH (fillfactor = 50);

-- How far the relay has published. Apart from the counter, so that the relay
-- never waits for a tenant's open transaction.
CREATE TABLE cell.outbox_cursor (
    tenant_id bigint NOT NULL PRIMARY KEY,
    published bigint NOT NULL CHECK (published >= 0)
) WITH (fillfactor = 50);

CREATE TABLE cell.outbox (
    tenant_id   bigint      NOT NULL,
    seq         bigint      NOT NULL CHECK (seq > 0),
    id          uuid        NOT NULL,
    cell        text        NOT NULL, -- where it was written; stays so when the tenant moves
    epoch       bigint      NOT NULL,
    type        text        NOT NULL,
    subject     text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    traceparent text        NOT NULL DEFAULT '',
    data        json        NOT NULL, -- not jsonb: a repeated event is the same to the byte
    PRIMARY KEY (tenant_id, seq)
);

SELECT cell.protect('cell.outbox_counter');
SELECT cell.protect('cell.outbox_cursor');
SELECT cell.protect('cell.outbox');

-- cell_scan may see, across tenants, that there is work; never do it. It owns
-- the functions that look, has no login, and no right but to read.
GRANT USAGE ON SCHEMA cell TO cell_scan;
GRANT SELECT ON cell.fence, cell.outbox_counter, cell.outbox_cursor, cell.outbox TO cell_scan;
CREATE POLICY cell_scan ON cell.outbox_counter FOR SELECT TO cell_scan USING (true);
CREATE POLICY cell_scan ON cell.outbox_cursor FOR SELECT TO cell_scan USING (true);
CREATE POLICY cell_scan ON cell.outbox FOR SELECT TO cell_scan USING (true);

-- +goose StatementBegin
-- Spreads tenants over n partitions: the upper bits of a multiplication, because
-- the numbers of one cell's tenants may well share a remainder. outbox.Partition
-- is the same in Go.
CREATE FUNCTION cell.partition(tenant bigint, n integer) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ((((tenant % 2147483648) * 2654435761 % 4294967296) >> 16) % n)::integer;
-- +goose StatementEnd

-- +goose StatementBegin
-- Tenants that may act here and have events not yet published.
CREATE FUNCTION cell.outbox_pending(partitions integer[], n integer, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, f.epoch
      FROM cell.outbox_counter c
      JOIN cell.fence f ON f.tenant_id = c.tenant_id AND f.state = 'active'
      LEFT JOIN cell.outbox_cursor p ON p.tenant_id = c.tenant_id
     WHERE c.last > coalesce(p.published, 0)
       AND cell.partition(c.tenant_id, n) = ANY (partitions)
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- How many events wait for the relay and for how long the oldest one has.
CREATE FUNCTION cell.outbox_backlog(OUT pending bigint, OUT lag_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(sum(c.last - coalesce(p.published, 0)), 0)::bigint,
           coalesce(extract(epoch FROM clock_timestamp() - min(o.at)), 0)::double precision
      FROM cell.outbox_counter c
      JOIN cell.fence f ON f.tenant_id = c.tenant_id AND f.state = 'active'
      LEFT JOIN cell.outbox_cursor p ON p.tenant_id = c.tenant_id
      LEFT JOIN cell.outbox o ON o.tenant_id = c.tenant_id AND o.seq = coalesce(p.published, 0) + 1
     WHERE c.last > coalesce(p.published, 0);
END;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.partition(bigint, integer), cell.outbox_pending(integer[], integer, integer),
    cell.outbox_backlog() FROM PUBLIC;
GRANT CREATE ON SCHEMA cell TO cell_scan;
ALTER FUNCTION cell.partition(bigint, integer) OWNER TO cell_scan;
ALTER FUNCTION cell.outbox_pending(integer[], integer, integer) OWNER TO cell_scan;
ALTER FUNCTION cell.outbox_backlog() OWNER TO cell_scan;
REVOKE CREATE ON SCHEMA cell FROM cell_scan;
GRANT EXECUTE ON FUNCTION cell.outbox_pending(integer[], integer, integer), cell.outbox_backlog() TO cell_app;
