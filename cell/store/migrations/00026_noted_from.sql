-- An undo begins at once: what its target noted before it gave the tenant away need not be forgotten first. The activation
-- records from where on notes count; those of before are no change of the tenancy that begins, and are forgotten in its watch.
-- +goose Up

CREATE TABLE cell.noted_from (
    tenant   bigint      NOT NULL PRIMARY KEY,
    snapshot pg_snapshot NOT NULL -- what is visible in it was noted before the tenant came here
);

-- +goose StatementBegin
-- The snapshot is taken before the transaction has a number: one that is recorded, also by a server that is killed right after,
-- holds no number that could be given again. No transaction of the tenant was under way then, and none that begins later is
-- visible in it, whenever it got its number. The rest is as in 00010.
CREATE OR REPLACE FUNCTION cell.activate_move(tenant bigint, at_epoch bigint, move text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begins pg_snapshot := pg_current_snapshot();
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.fence f SET state = 'active', capture = true, moved_to = NULL
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'incoming' AND f.move_id = move
       AND EXISTS (SELECT FROM cell.received r WHERE r.tenant_id = tenant AND r.move_id = move AND r.final);
    IF FOUND THEN
        INSERT INTO cell.noted_from AS n VALUES (tenant, begins) ON CONFLICT ON CONSTRAINT noted_from_pkey DO UPDATE SET snapshot = begins;
    END IF;
    PERFORM pg_notify('cell_fence', tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Removes up to max noted keys of a tenant that nobody needs: all where it is not armed, else those of before it came.
CREATE OR REPLACE FUNCTION cell.forget(tenant bigint, max integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM cell.dirty d
         WHERE d.ctid = ANY (ARRAY(
               SELECT i.ctid FROM cell.dirty i
                 JOIN cell.fence f ON f.tenant_id = i.tenant_id
                 LEFT JOIN cell.noted_from n ON n.tenant = i.tenant_id
                WHERE i.tenant_id = forget.tenant AND (NOT f.capture OR pg_visible_in_snapshot(i.xid, n.snapshot)) LIMIT max))
        RETURNING 1)
    SELECT count(*) FROM gone;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- As in 00013, but for the notes of before the tenant came: one that is made of them would be new.
CREATE OR REPLACE FUNCTION cell.compact(tenant bigint, piece integer, pieces integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    less bigint;
    begins pg_snapshot;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(cell.lock_key(tenant));
    PERFORM FROM cell.fence f WHERE f.tenant_id = tenant AND f.capture AND f.state = 'active';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT n.snapshot INTO begins FROM cell.noted_from n WHERE n.tenant = compact.tenant;
    WITH twice AS (SELECT d.ctid AS at, count(*) OVER (PARTITION BY d.tbl, d.pk) AS times
                     FROM cell.dirty d
                    WHERE d.tenant_id = tenant AND mod(hashtext(d.tbl || d.pk::text)::bigint + 2147483648, pieces) = piece
                      AND pg_visible_in_snapshot(d.xid, begins) IS NOT TRUE),
         gone AS (DELETE FROM cell.dirty d USING twice t WHERE d.ctid = t.at AND t.times > 1 RETURNING d.tbl, d.pk),
         one AS (INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT DISTINCT tenant, g.tbl, g.pk FROM gone g RETURNING 1)
    SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM one) INTO less;
    RETURN less;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE ON cell.noted_from TO cell_fence;
GRANT SELECT, DELETE ON cell.noted_from TO cell_move;

-- An undo that was aborted in its pause before 00025 has left a copy that says nothing of the source's generation. Where the source
-- has lost something since, the next undo copies everything.
UPDATE cell.received SET snapshot = '0/3:3:' WHERE move_id LIKE 'kept:%' AND snapshot = '3:3:';
