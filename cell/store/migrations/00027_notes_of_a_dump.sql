-- Where a dump was loaded into a new server, the notes of changed keys have numbers of transactions that
-- this one will give out in years: every round of an undo took them for later than its snapshot, and sent
-- all of them again, so that it never caught up. A reconciliation gives them its own number.
-- +goose Up

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.reconcile(witness bigint, known bigint, tenants bigint[], epochs bigint[], states text[], captures boolean[],
                               moves text[], cells text[], void text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    armed bigint;
BEGIN
    PERFORM cell.lock_serving();
    IF EXISTS (SELECT FROM cell.serving s WHERE s.started = pg_postmaster_start_time() AND s.home = cell.home()) THEN
        RETURN; -- another process was quicker
    END IF;
    PERFORM set_config('cell.reconciling', 'on', true);
    INSERT INTO cell.fence AS f (tenant_id, epoch, state, capture, move_id, moved_to)
    SELECT u.t, u.e, u.s, u.c, nullif(u.m, ''), nullif(u.d, '') FROM unnest(tenants, epochs, states, captures, moves, cells) AS u (t, e, s, c, m, d)
        ON CONFLICT (tenant_id) DO UPDATE
       SET epoch = excluded.epoch, state = excluded.state, capture = excluded.capture, move_id = excluded.move_id, moved_to = excluded.moved_to;
    INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot)
    SELECT u.t, 'void:' || u.m, 0, '3:3:' FROM unnest(tenants, void) AS u (t, m) WHERE u.m <> ''
        ON CONFLICT (tenant_id) DO UPDATE SET move_id = excluded.move_id, round = 0, final = false;
    FOR armed IN SELECT t.tenant_id FROM cell.fence t WHERE t.capture LOOP
        UPDATE cell.dirty d SET xid = pg_current_xact_id()
         WHERE d.tenant_id = armed AND d.xid >= pg_snapshot_xmax(pg_current_snapshot());
    END LOOP;
    UPDATE cell.serving s
       SET home = cell.home(), started = pg_postmaster_start_time(), beat = greatest(s.beat, witness) + 1,
           generation = s.generation + 1, admit_above = greatest(s.admit_above, known), reconciled_at = now();
    PERFORM set_config('cell.reconciling', '', true);
    PERFORM pg_notify('cell_fence', '');
END $$;
-- +goose StatementEnd
