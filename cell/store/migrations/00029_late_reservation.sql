-- What a reservation that arrives late, of a mover that has lost its move, must not change. Of an undo that was aborted, it took
-- the kept copy as it is no more: that what it has got is of a source that has lost some of it since was forgotten. And of a
-- move that goes on, it took the copy for one that was only kept, so that all was copied again.
-- +goose Up

-- What was reserved before this, and what was only copied since, are alike: as before, another reservation has both copied.
UPDATE cell.received SET at = '-infinity' WHERE round = 0 AND NOT final AND move_id NOT LIKE 'kept:%' AND move_id NOT LIKE 'void:%';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.reserve(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept boolean;
BEGIN
    SELECT f.move_id = undoes AND f.state = 'moved' AND f.epoch < base + 1 INTO kept FROM cell.fence f WHERE f.tenant_id = tenant FOR UPDATE;
    IF undoes IS NOT NULL AND kept IS TRUE THEN
        -- The time says that no round of this move is here yet.
        INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot, at) VALUES (tenant, move, 0, '3:3:', '-infinity')
            ON CONFLICT (tenant_id) DO UPDATE SET move_id = move, round = 0, final = false, at = '-infinity',
               snapshot = CASE WHEN r.move_id = 'kept:' || undoes THEN r.snapshot ELSE '3:3:' END
         WHERE r.move_id <> 'void:' || undoes;
    END IF;
    IF undoes IS NULL THEN
        DELETE FROM cell.received r USING cell.fence f
         WHERE r.tenant_id = tenant AND r.move_id = move AND r.round = 0 AND NOT r.final AND r.at = '-infinity'
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
