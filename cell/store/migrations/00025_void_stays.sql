-- That a kept copy is void (00011) was forgotten when an undo of it was reserved. Where that undo was aborted before its
-- own copy was here, the next one began with what a failover had left. It stays until another copy takes its place.
-- +goose Up

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.reserve(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept boolean;
BEGIN
    SELECT f.move_id = undoes AND f.state = 'moved' INTO kept FROM cell.fence f WHERE f.tenant_id = tenant FOR UPDATE;
    IF undoes IS NOT NULL AND kept IS TRUE THEN
        INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot) VALUES (tenant, move, 0, '3:3:')
            ON CONFLICT (tenant_id) DO UPDATE SET move_id = move, round = 0, final = false,
               snapshot = CASE WHEN r.move_id LIKE 'kept:%' THEN r.snapshot ELSE '3:3:' END
         WHERE r.move_id <> 'void:' || undoes;
    END IF;
    IF undoes IS NULL THEN
        DELETE FROM cell.received r USING cell.fence f
         WHERE r.tenant_id = tenant AND r.move_id = move AND r.round = 0 AND NOT r.final
           AND f.tenant_id = tenant AND f.state = 'incoming' AND f.epoch = base + 1 AND f.move_id = move;
    END IF;
    IF undoes IS NULL OR kept IS TRUE THEN
        INSERT INTO cell.fence AS f (tenant_id, epoch, state, move_id) VALUES (tenant, base + 1, 'incoming', move)
            ON CONFLICT (tenant_id) DO UPDATE SET epoch = base + 1, state = 'incoming', move_id = move, capture = false
         WHERE f.state IN ('moved', 'incoming') AND f.epoch < base + 1;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- An undo that was awaited and has no record here was to copy everything: so is the next one. What one that was aborted in its
-- pause has brought counts only for the source's generation that it is of: one that a failover has made older has lost some of it.
CREATE OR REPLACE FUNCTION cell.discard(tenant bigint, at_epoch bigint, move text, undoes text, source text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    awaited boolean;
BEGIN
    SELECT f.state = 'incoming' INTO awaited FROM cell.fence f WHERE f.tenant_id = tenant FOR UPDATE;
    INSERT INTO cell.fence AS f (tenant_id, epoch, state, moved_to, move_id)
    VALUES (tenant, at_epoch, 'moved', source, coalesce(undoes, move))
        ON CONFLICT (tenant_id) DO UPDATE
       SET epoch = at_epoch, state = 'moved', moved_to = source, capture = false, move_id = coalesce(undoes, move)
     WHERE (f.state = 'incoming' AND f.epoch = at_epoch AND f.move_id = move)
        OR (f.state IN ('moved', 'incoming') AND f.epoch < at_epoch);
    IF FOUND AND undoes IS NOT NULL THEN
        UPDATE cell.received r SET move_id = 'kept:' || undoes, final = false,
               snapshot = CASE WHEN r.final THEN coalesce(substring(r.snapshot FROM '^[0-9]+/'), '0/') || '3:3:' ELSE r.snapshot END
         WHERE r.tenant_id = tenant AND r.move_id = move;
        IF NOT FOUND AND awaited THEN
            INSERT INTO cell.received (tenant_id, move_id, round, snapshot) VALUES (tenant, 'void:' || undoes, 0, '3:3:')
                ON CONFLICT (tenant_id) DO NOTHING;
        END IF;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd
