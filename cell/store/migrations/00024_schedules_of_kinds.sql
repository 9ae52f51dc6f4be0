-- A schedule of a kind that no worker knows any more is nobody's to fire.
-- +goose Up

-- +goose StatementBegin
-- As in 00012, but of schedules, too, those of the kinds only.
CREATE OR REPLACE FUNCTION cell.jobs_due(kinds text[], max integer)
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
                        WHERE s.tenant_id = f.tenant_id AND s.next_run <= now() AND s.kind = ANY (kinds)))
     LIMIT max;
END;
-- +goose StatementEnd
