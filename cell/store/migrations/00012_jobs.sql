-- Work to be done later, and again and again. Both are tenant tables: they move
-- with the tenant, and what a claim means after a move follows from its epoch.
-- +goose Up

CREATE TABLE cell.job (
    tenant_id     bigint      NOT NULL,
    id            uuid        NOT NULL,
    kind          text        NOT NULL,
    key           text,                   -- of a kind one job has it, whatever its state; NULL: not told apart
    payload       json        NOT NULL,
    state         text        NOT NULL DEFAULT 'available' CHECK (state IN ('available', 'running', 'done', 'dead')),
    attempt       integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts  integer     NOT NULL CHECK (max_attempts > 0),
    due_at        timestamptz NOT NULL,   -- when it was meant to run
    run_at        timestamptz NOT NULL,   -- not before; later than due_at after a failure
    claimed_epoch bigint,                 -- of the last claim; an older one than the tenant's is void
    claimed_until timestamptz,            -- and so is one that has lapsed
    error         text        NOT NULL DEFAULT '', -- of the last attempt that failed
    traceparent   text        NOT NULL DEFAULT '',
    ended_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, kind, key),
    CHECK (state <> 'running' OR (claimed_epoch IS NOT NULL AND claimed_until IS NOT NULL))
) WITH (fillfactor = 70);

-- What is due of one tenant, in order; who is at work; what is over.
CREATE INDEX job_due ON cell.job (tenant_id, run_at) WHERE state = 'available';
CREATE INDEX job_claimed ON cell.job (tenant_id, claimed_until) WHERE state = 'running';
CREATE INDEX job_ended ON cell.job (ended_at) WHERE state = 'done';

CREATE TABLE cell.schedule (
    tenant_id bigint      NOT NULL,
    name      text        NOT NULL,
    kind      text        NOT NULL, -- of the jobs that it makes
    payload   json        NOT NULL,
    every     interval    NOT NULL CHECK (extract(epoch FROM every) >= 0.1),
    next_run  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
) WITH (fillfactor = 70);

CREATE INDEX schedule_due ON cell.schedule (tenant_id, next_run);

SELECT cell.protect('cell.job');
SELECT cell.protect('cell.schedule');

GRANT SELECT ON cell.job, cell.schedule TO cell_scan;
CREATE POLICY cell_scan ON cell.job FOR SELECT TO cell_scan USING (true);
CREATE POLICY cell_scan ON cell.schedule FOR SELECT TO cell_scan USING (true);

-- +goose StatementBegin
-- Tenants that may act here and have a job of one of the kinds, or a schedule,
-- that is due, or a claim that is void. It goes by tenants and not by jobs: one
-- with a million of them is one row, and what a tenant that moved away has left
-- behind costs nothing.
CREATE FUNCTION cell.jobs_due(kinds text[], max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, f.epoch
      FROM cell.fence f
     WHERE f.state = 'active'
       AND (EXISTS (SELECT FROM cell.job j
                     WHERE j.tenant_id = f.tenant_id AND j.state = 'available' AND j.run_at <= now() AND j.kind = ANY (kinds))
            OR EXISTS (SELECT FROM cell.job j
                        WHERE j.tenant_id = f.tenant_id AND j.state = 'running'
                          AND (j.claimed_until <= now() OR j.claimed_epoch < f.epoch))
            OR EXISTS (SELECT FROM cell.schedule s
                        WHERE s.tenant_id = f.tenant_id AND s.next_run <= now()))
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- How many jobs of tenants that may act here are due and not begun, for how long
-- the oldest has been, and how many were given up.
CREATE FUNCTION cell.jobs_backlog(OUT due bigint, OUT oldest_seconds double precision, OUT dead bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT count(*) FILTER (WHERE j.state = 'available'),
           coalesce(extract(epoch FROM now() - min(j.run_at) FILTER (WHERE j.state = 'available')), 0)::double precision,
           count(*) FILTER (WHERE j.state = 'dead')
      FROM cell.job j
      JOIN cell.fence f ON f.tenant_id = j.tenant_id AND f.state = 'active'
     WHERE j.state = 'dead' OR (j.state = 'available' AND j.run_at <= now());
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- Tenants that may act here and have jobs that were done longer than keep ago.
CREATE FUNCTION cell.jobs_expired(keep interval, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT DISTINCT f.tenant_id, f.epoch
      FROM cell.job j
      JOIN cell.fence f ON f.tenant_id = j.tenant_id AND f.state = 'active'
     WHERE j.state = 'done' AND j.ended_at < now() - keep
     LIMIT max;
END;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.jobs_due(text[], integer), cell.jobs_backlog(), cell.jobs_expired(interval, integer) FROM PUBLIC;
GRANT CREATE ON SCHEMA cell TO cell_scan;
ALTER FUNCTION cell.jobs_due(text[], integer) OWNER TO cell_scan;
ALTER FUNCTION cell.jobs_backlog() OWNER TO cell_scan;
ALTER FUNCTION cell.jobs_expired(interval, integer) OWNER TO cell_scan;
REVOKE CREATE ON SCHEMA cell FROM cell_scan;
GRANT EXECUTE ON FUNCTION cell.jobs_due(text[], integer), cell.jobs_backlog(), cell.jobs_expired(interval, integer) TO cell_app;
