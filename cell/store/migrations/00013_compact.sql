-- Two things that a move leaves tidy: what the target of an aborted move remembers,
-- and how many keys a tenant that is watched over for a day may note.
-- +goose Up

-- +goose StatementBegin
-- Target of an aborted move: a tombstone that points back, at the epoch of the
-- move, also where the move had reserved nothing: a reservation that arrives late
-- then finds that it is over. The rest is as in 00010.
CREATE OR REPLACE FUNCTION cell.discard(tenant bigint, at_epoch bigint, move text, undoes text, source text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO cell.fence AS f (tenant_id, epoch, state, moved_to, move_id)
    VALUES (tenant, at_epoch, 'moved', source, coalesce(undoes, move))
        ON CONFLICT (tenant_id) DO UPDATE
       SET epoch = at_epoch, state = 'moved', moved_to = source, capture = false, move_id = coalesce(undoes, move)
     WHERE (f.state = 'incoming' AND f.epoch = at_epoch AND f.move_id = move)
        OR (f.state IN ('moved', 'incoming') AND f.epoch < at_epoch);
    IF FOUND AND undoes IS NOT NULL THEN
        UPDATE cell.received r SET move_id = 'kept:' || undoes, final = false WHERE r.tenant_id = tenant AND r.move_id = move;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Makes one note of the many that an armed tenant has of the same key, for one of
-- so many pieces of its keys; returns how many notes are gone. The note that stays is this transaction's
-- own: it counts as changed for every snapshot that may not have seen one of those
-- that it stands for, whatever the order in which their transactions began and ended.
-- The shared lock keeps the tenant armed, as for a transaction of its own.
CREATE FUNCTION cell.compact(tenant bigint, piece integer, pieces integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    less bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(cell.lock_key(tenant));
    PERFORM FROM cell.fence f WHERE f.tenant_id = tenant AND f.capture AND f.state = 'active';
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH twice AS (SELECT d.ctid AS at, count(*) OVER (PARTITION BY d.tbl, d.pk) AS times
                     FROM cell.dirty d
                    WHERE d.tenant_id = tenant AND mod(hashtext(d.tbl || d.pk::text)::bigint + 2147483648, pieces) = piece),
         gone AS (DELETE FROM cell.dirty d USING twice t WHERE d.ctid = t.at AND t.times > 1 RETURNING d.tbl, d.pk),
         one AS (INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT DISTINCT tenant, g.tbl, g.pk FROM gone g RETURNING 1)
    SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM one) INTO less;
    RETURN less;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- The armed tenants that have more notes than that, and how many.
CREATE FUNCTION cell.noted(above bigint) RETURNS TABLE (tenant_id bigint, notes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, n.notes
      FROM cell.fence f
     CROSS JOIN LATERAL (SELECT count(*) AS notes FROM cell.dirty d WHERE d.tenant_id = f.tenant_id) n
     WHERE f.capture AND f.state = 'active' AND n.notes > above;
END;
-- +goose StatementEnd

CREATE INDEX fence_armed ON cell.fence (tenant_id) WHERE capture;

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
ALTER FUNCTION cell.compact(bigint, integer, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.noted(bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.compact(bigint, integer, integer), cell.noted(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.compact(bigint, integer, integer), cell.noted(bigint) TO cell_app;
