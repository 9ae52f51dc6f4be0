-- An undo whose kept copy does not count is awaited like any move (cell/mover/undo.go). A mover before may have
-- died after it reserved the copy: what that left must not be begun with.
-- +goose Up

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.reserve(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept boolean;
BEGIN
    SELECT f.move_id = undoes AND f.state = 'moved' INTO kept FROM cell.fence f WHERE f.tenant_id = tenant FOR UPDATE;
    IF undoes IS NOT NULL AND kept IS TRUE THEN
        DELETE FROM cell.received r WHERE r.tenant_id = tenant AND r.move_id = 'void:' || undoes; -- suspect
        IF NOT FOUND THEN
            INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot) VALUES (tenant, move, 0, '3:3:')
                ON CONFLICT (tenant_id) DO UPDATE SET move_id = move, round = 0, final = false,
                   snapshot = CASE WHEN r.move_id LIKE 'kept:%' THEN r.snapshot ELSE '3:3:' END;
        END IF;
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
