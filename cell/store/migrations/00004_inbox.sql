-- What each consumer has done of each tenant's events.
-- +goose Up

-- One row per tenant and consumer, written in the transaction of the effect.
CREATE TABLE cell.inbox (
    tenant_id bigint      NOT NULL,
    consumer  text        NOT NULL,
    last_seq  bigint      NOT NULL CHECK (last_seq >= 0),
    attempts  integer     NOT NULL DEFAULT 0, -- failed tries of last_seq + 1
    retry_at  timestamptz,                    -- not before
    error     text        NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, consumer)
) WITH (fillfactor = 50);

-- Events that a consumer was not able to apply.
CREATE TABLE cell.dead_letter (
    tenant_id bigint      NOT NULL,
    consumer  text        NOT NULL,
    seq       bigint      NOT NULL,
    event_id  uuid        NOT NULL,
    type      text        NOT NULL,
    event     json        NOT NULL, -- the whole envelope
    error     text        NOT NULL,
    attempts  integer     NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, consumer, seq)
);

SELECT cell.protect('cell.inbox');
SELECT cell.protect('cell.dead_letter');

GRANT SELECT ON cell.inbox TO cell_scan;
CREATE POLICY cell_scan ON cell.inbox FOR SELECT TO cell_scan USING (true);

-- +goose StatementBegin
-- Tenants that may act here and of which the consumer has not done an event that
-- is older than grace: the bus lost it, or nobody was there.
CREATE FUNCTION cell.inbox_behind(consumer text, partitions integer[], n integer, grace interval, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint, last bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, f.epoch, c.last
      FROM cell.outbox_counter c
      JOIN cell.fence f ON f.tenant_id = c.tenant_id AND f.state = 'active'
      LEFT JOIN cell.inbox i ON i.tenant_id = c.tenant_id AND i.consumer = inbox_behind.consumer
     WHERE c.last > coalesce(i.last_seq, 0)
       AND coalesce(i.retry_at, '-infinity') <= now()
       AND cell.partition(c.tenant_id, n) = ANY (partitions)
       AND (SELECT o.at FROM cell.outbox o
             WHERE o.tenant_id = c.tenant_id AND o.seq > coalesce(i.last_seq, 0)
             ORDER BY o.seq LIMIT 1) <= clock_timestamp() - grace
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- Tenants with events older than keep that are published and that every one of
-- the consumers has done: up to which number they may go.
CREATE FUNCTION cell.outbox_expired(consumers text[], keep interval, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint, upto bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT e.tenant_id, e.epoch, e.upto
      FROM (SELECT f.tenant_id, f.epoch,
                   least(p.published, (SELECT min(coalesce(i.last_seq, 0))
                                         FROM unnest(consumers) AS u (name)
                                         LEFT JOIN cell.inbox i ON i.tenant_id = p.tenant_id AND i.consumer = u.name)) AS upto
              FROM cell.outbox_cursor p
              JOIN cell.fence f ON f.tenant_id = p.tenant_id AND f.state = 'active') e
     WHERE (SELECT o.at FROM cell.outbox o
             WHERE o.tenant_id = e.tenant_id AND o.seq <= e.upto
             ORDER BY o.seq LIMIT 1) <= clock_timestamp() - keep
     LIMIT max;
END;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.inbox_behind(text, integer[], integer, interval, integer),
    cell.outbox_expired(text[], interval, integer) FROM PUBLIC;
GRANT CREATE ON SCHEMA cell TO cell_scan;
ALTER FUNCTION cell.inbox_behind(text, integer[], integer, interval, integer) OWNER TO cell_scan;
ALTER FUNCTION cell.outbox_expired(text[], interval, integer) OWNER TO cell_scan;
REVOKE CREATE ON SCHEMA cell FROM cell_scan;
GRANT EXECUTE ON FUNCTION cell.inbox_behind(text, integer[], integer, interval, integer),
    cell.outbox_expired(text[], interval, integer) TO cell_app;
