-- How late consumers and jobs are, whatever it is that they meet.
-- +goose Up

-- +goose StatementBegin
-- For how long the oldest event that each of the consumers has not done has been there,
-- of the tenants that may act here; 0 where a consumer has done all.
CREATE FUNCTION cell.inbox_lag(consumers text[]) RETURNS TABLE (consumer text, lag_seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT u.name, coalesce(extract(epoch FROM clock_timestamp() - min(b.at)), 0)::double precision
      FROM unnest(consumers) AS u (name)
      LEFT JOIN LATERAL (
           SELECT (SELECT o.at FROM cell.outbox o
                    WHERE o.tenant_id = c.tenant_id AND o.seq > coalesce(i.last_seq, 0)
                    ORDER BY o.seq LIMIT 1) AS at
             FROM cell.outbox_counter c
             JOIN cell.fence f ON f.tenant_id = c.tenant_id AND f.state = 'active'
             LEFT JOIN cell.inbox i ON i.tenant_id = c.tenant_id AND i.consumer = u.name
            WHERE c.last > coalesce(i.last_seq, 0)) b ON true
     GROUP BY u.name;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- As in 00012, but a job that rests because it met a fault that is not its own, and has
-- not failed before, is due all the while.
CREATE OR REPLACE FUNCTION cell.jobs_backlog(OUT due bigint, OUT oldest_seconds double precision, OUT dead bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT count(*) FILTER (WHERE w.state = 'available'),
           coalesce(extract(epoch FROM now() - min(w.since) FILTER (WHERE w.state = 'available')), 0)::double precision,
           count(*) FILTER (WHERE w.state = 'dead')
      FROM (SELECT j.state, CASE WHEN j.error = '' THEN j.due_at ELSE j.run_at END AS since
              FROM cell.job j
              JOIN cell.fence f ON f.tenant_id = j.tenant_id AND f.state = 'active'
             WHERE j.state IN ('available', 'dead')) w
     WHERE w.state = 'dead' OR w.since <= now();
END;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.inbox_lag(text[]) FROM PUBLIC;
GRANT CREATE ON SCHEMA cell TO cell_scan;
ALTER FUNCTION cell.inbox_lag(text[]) OWNER TO cell_scan;
REVOKE CREATE ON SCHEMA cell FROM cell_scan;
GRANT EXECUTE ON FUNCTION cell.inbox_lag(text[]) TO cell_app;
