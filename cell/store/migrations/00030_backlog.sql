-- How many jobs wait was asked every five seconds by reading all that there are, also those that were done and are
-- kept for a day, and alarms of the years to come. Who writes jobs waits while the index is made; what copies does not.
-- +goose Up

CREATE INDEX job_backlog ON cell.job (state, (CASE WHEN error = '' THEN due_at ELSE run_at END)) WHERE state IN ('available', 'dead');

-- +goose StatementBegin
-- As in 00021: a job that rests because it met a fault that is not its own, and has not
-- failed before, is due all the while.
CREATE OR REPLACE FUNCTION cell.jobs_backlog(OUT due bigint, OUT oldest_seconds double precision, OUT dead bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT w.n, coalesce(extract(epoch FROM now() - w.oldest), 0)::double precision, d.n
      FROM (SELECT count(*) AS n, min(CASE WHEN j.error = '' THEN j.due_at ELSE j.run_at END) AS oldest
              FROM cell.job j
              JOIN cell.fence f ON f.tenant_id = j.tenant_id AND f.state = 'active'
             WHERE j.state = 'available' AND CASE WHEN j.error = '' THEN j.due_at ELSE j.run_at END <= now()) w,
           (SELECT count(*) AS n
              FROM cell.job j
              JOIN cell.fence f ON f.tenant_id = j.tenant_id AND f.state = 'active'
             WHERE j.state = 'dead') d;
END;
-- +goose StatementEnd
