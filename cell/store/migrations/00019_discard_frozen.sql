-- A round in the frozen source's pause does not wait for its disk. Where the move is aborted and the
-- source killed right then, it gives numbers that the round's snapshot saw to other transactions:
-- what an undo would begin with after it begins anew, with everything that was noted.
-- +goose Up

-- +goose StatementBegin
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
        UPDATE cell.received r SET move_id = 'kept:' || undoes, final = false, snapshot = CASE WHEN r.final THEN '3:3:' ELSE r.snapshot END
         WHERE r.tenant_id = tenant AND r.move_id = move;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd
