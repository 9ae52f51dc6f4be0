-- The live move, as the cell's database sees it: capture of changed keys at the
-- source, what was received at the target, and the steps of the fence. Each step
-- is conditional on the epoch and the move, so what a mover says late changes
-- nothing; each may be repeated. docs/MOVE.md tells the protocol.
-- +goose Up

-- Keys of rows that changed while their tenant was armed, appended in the
-- transaction of the change: a key is visible exactly where its change is, so
-- pg_visible_in_snapshot is all the order that a reader needs. It is no tenant
-- table: the application cannot reach it and a move does not copy it.
CREATE TABLE cell.dirty (
    tenant_id bigint NOT NULL,
    tbl       text   NOT NULL, -- schema.table, the same in every cell
    pk        jsonb  NOT NULL, -- the primary key's columns but tenant_id, as an array of text
    xid       xid8   NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX dirty_tenant ON cell.dirty (tenant_id, tbl);

-- What this cell, as a target, has received. It commits with the rows.
CREATE TABLE cell.received (
    tenant_id bigint      NOT NULL PRIMARY KEY,
    move_id   text        NOT NULL,
    round     integer     NOT NULL,
    snapshot  text        NOT NULL, -- the source's pg_snapshot that the rows here equal
    final     boolean     NOT NULL DEFAULT false, -- taken after the freeze: nothing follows
    at        timestamptz NOT NULL DEFAULT now()
);

-- +goose StatementBegin
-- Installs capture on a tenant table. Disarmed, a changed row pays for one WHEN
-- clause. Repeating it makes the trigger anew, as after a change of the key.
-- A partitioned table passes its row trigger on to its partitions; the name that
-- is noted is the parent's.
CREATE FUNCTION cell.capture(t regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label CONSTANT text := (SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t);
    fn    CONSTANT text := 'cell.' || quote_ident('capture_' || replace(label, '.', '_'));
    was   text; -- the key's values before the change, and
    now   text; -- after it
BEGIN
    SELECT coalesce(string_agg(format('OLD.%I::text', a.attname), ', ' ORDER BY k.ord), ''),
           coalesce(string_agg(format('NEW.%I::text', a.attname), ', ' ORDER BY k.ord), '')
      INTO was, now
      FROM pg_index i
     CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, ord)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attname <> 'tenant_id'
     WHERE i.indrelid = t AND i.indisprimary;
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION %1$s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $t$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (OLD.tenant_id, %2$L, jsonb_build_array(%3$s));
            END IF;
            IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND jsonb_build_array(%3$s) <> jsonb_build_array(%4$s)) THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (NEW.tenant_id, %2$L, jsonb_build_array(%4$s));
            END IF;
            RETURN NULL;
        END $t$ $f$, fn, label, was, now);
    GRANT CREATE ON SCHEMA cell TO cell_fence; -- an owner must be able to make what it owns; only for this moment
    EXECUTE format('ALTER FUNCTION %s() OWNER TO cell_fence', fn);
    REVOKE CREATE ON SCHEMA cell FROM cell_fence;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s() FROM PUBLIC', fn);
    EXECUTE format($q$CREATE OR REPLACE TRIGGER zz_cell_capture AFTER INSERT OR UPDATE OR DELETE ON %s
        FOR EACH ROW WHEN (current_setting('cell.capture', true) = 'on') EXECUTE FUNCTION %s()$q$, t, fn);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_cell_capture', t);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Opens the tenant to a transaction of the move that the fence is waiting for,
-- and keeps the fence's row locked to its end: of two movers at once the later
-- one waits and finds what the first one left. It sets what the guard asks for.
CREATE FUNCTION cell.enter_move(tenant bigint, move text, at_epoch bigint, states text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM cell.fence f
      WHERE f.tenant_id = tenant AND f.move_id = move AND f.epoch = at_epoch AND f.state = ANY (states)
        FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % does not await move % at epoch %', tenant, move, at_epoch USING ERRCODE = 'CF004';
    END IF;
    PERFORM set_config('cell.tenant', tenant::text, true);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Source, RESERVED -> ARMED: from here on every change of the tenant's rows notes
-- its key. The exclusive lock is what makes it complete: when it is granted, no
-- transaction that began unarmed is left. A tenant that never was here is admitted.
CREATE FUNCTION cell.arm(tenant bigint, base bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF base = 1 THEN
        INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (tenant, 1, 'active') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM cell.lock_tenant(tenant, wait_ms);
    -- Not armed yet: what is noted is left over from a move that has ended.
    DELETE FROM cell.dirty d USING cell.fence f
     WHERE d.tenant_id = tenant AND f.tenant_id = tenant AND f.epoch = base AND NOT f.capture;
    UPDATE cell.fence f SET capture = true, move_id = move
     WHERE f.tenant_id = tenant AND f.epoch = base AND f.state = 'active';
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Target, PLANNED -> RESERVED: the fence awaits the tenant at base + 1. Over a
-- tombstone, or what an older move left, only where its epoch is lower. An undo begins with the copy that was
-- kept here: all that the other side has noted since is the first round.
CREATE FUNCTION cell.reserve(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept boolean;
BEGIN
    SELECT f.move_id = undoes AND f.state = 'moved' INTO kept FROM cell.fence f WHERE f.tenant_id = tenant FOR UPDATE;
    IF undoes IS NOT NULL AND kept IS TRUE THEN
        INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot) VALUES (tenant, move, 0, '3:3:')
            ON CONFLICT (tenant_id) DO UPDATE SET move_id = move, round = 0, final = false,
               snapshot = CASE WHEN r.move_id LIKE 'kept:%' THEN r.snapshot ELSE '3:3:' END;
    END IF;
    IF undoes IS NULL OR kept IS TRUE THEN
        INSERT INTO cell.fence AS f (tenant_id, epoch, state, move_id) VALUES (tenant, base + 1, 'incoming', move)
            ON CONFLICT (tenant_id) DO UPDATE SET epoch = base + 1, state = 'incoming', move_id = move, capture = false
         WHERE f.state IN ('moved', 'incoming') AND f.epoch < base + 1; -- a lower one is of a move that has ended
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Source, CAUGHT_UP -> FROZEN: the pause begins. Only what this move armed.
CREATE FUNCTION cell.freeze_move(tenant bigint, at_epoch bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_tenant(tenant, wait_ms);
    UPDATE cell.fence f SET state = 'frozen', epoch = f.epoch + 1
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'active' AND f.capture AND f.move_id = move;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Target, DECIDED -> ACTIVE: the pause is over. Capture is on from the first
-- transaction, so that the way back costs only what changes. Who waits here for
-- the tenant is told.
CREATE FUNCTION cell.activate_move(tenant bigint, at_epoch bigint, move text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.fence f SET state = 'active', capture = true, moved_to = NULL
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'incoming' AND f.move_id = move
       AND EXISTS (SELECT FROM cell.received r WHERE r.tenant_id = tenant AND r.move_id = move AND r.final);
    PERFORM pg_notify('cell_fence', tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Source, ACTIVE -> SRC_MOVED: the tombstone. The rows stay for the way back.
CREATE FUNCTION cell.retire(tenant bigint, at_epoch bigint, move text, to_cell text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE cell.fence f SET state = 'moved', moved_to = to_cell, capture = false
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'frozen' AND f.move_id = move;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Source of an aborted move, once the directory has given the tenant back at
-- base + 2: active again, whether or not the freeze was reached. An undo that is
-- aborted leaves capture on: the watch that it interrupted goes on.
CREATE FUNCTION cell.release(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    INSERT INTO cell.fence AS f (tenant_id, epoch, state) VALUES (tenant, base + 2, 'active')
        ON CONFLICT (tenant_id) DO UPDATE
       SET state = 'active', epoch = base + 2, capture = undoes IS NOT NULL, move_id = coalesce(undoes, move)
     WHERE (f.epoch = base AND f.state = 'active') OR (f.epoch = base + 1 AND f.state = 'frozen' AND f.move_id = move);
    PERFORM pg_notify('cell_fence', tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Target of an aborted move: a tombstone that points back. Its rows are removed
-- afterwards (cell.enter_move in state moved), unless the move was an undo: then
-- they are the copy that the next undo begins with, as far as it got.
CREATE FUNCTION cell.discard(tenant bigint, at_epoch bigint, move text, undoes text, source text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE cell.fence f SET state = 'moved', moved_to = source, capture = false, move_id = coalesce(undoes, move)
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'incoming' AND f.move_id = move;
    IF FOUND AND undoes IS NOT NULL THEN
        UPDATE cell.received r SET move_id = 'kept:' || undoes, final = false WHERE r.tenant_id = tenant AND r.move_id = move;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Owner after the watch: capture off. What was noted is removed by the caller.
CREATE FUNCTION cell.disarm(tenant bigint, at_epoch bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_tenant(tenant, wait_ms);
    UPDATE cell.fence f SET capture = false, move_id = NULL
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'active' AND f.move_id = move;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Removes up to max noted keys of a tenant that is not armed; returns how many.
CREATE FUNCTION cell.forget(tenant bigint, max integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM cell.dirty d
         WHERE d.ctid = ANY (ARRAY(
               SELECT i.ctid FROM cell.dirty i
                 JOIN cell.fence f ON f.tenant_id = i.tenant_id AND NOT f.capture
                WHERE i.tenant_id = tenant LIMIT max))
        RETURNING 1)
    SELECT count(*) FROM gone;
END;
-- +goose StatementEnd

-- cell_move is what the transfer endpoint's login role may do. That role reads
-- and writes past row security, because COPY cannot work under it; the guard
-- triggers, which it cannot switch off, hold it to the tenant of its move.
GRANT USAGE ON SCHEMA cell TO cell_move;
GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
GRANT SELECT, INSERT, UPDATE, DELETE ON cell.dirty TO cell_fence;
GRANT SELECT, INSERT, UPDATE, DELETE ON cell.received TO cell_fence, cell_move;
GRANT SELECT ON cell.fence, cell.dirty, cell.incarnation TO cell_move;
ALTER FUNCTION cell.enter_move(bigint, text, bigint, text[]) OWNER TO cell_fence;
ALTER FUNCTION cell.arm(bigint, bigint, text, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.reserve(bigint, bigint, text, text) OWNER TO cell_fence;
ALTER FUNCTION cell.freeze_move(bigint, bigint, text, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.activate_move(bigint, bigint, text) OWNER TO cell_fence;
ALTER FUNCTION cell.retire(bigint, bigint, text, text) OWNER TO cell_fence;
ALTER FUNCTION cell.release(bigint, bigint, text, text) OWNER TO cell_fence;
ALTER FUNCTION cell.discard(bigint, bigint, text, text, text) OWNER TO cell_fence;
ALTER FUNCTION cell.disarm(bigint, bigint, text, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.forget(bigint, integer) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.capture(regclass), cell.enter_move(bigint, text, bigint, text[]), cell.arm(bigint, bigint, text, integer),
    cell.reserve(bigint, bigint, text, text), cell.freeze_move(bigint, bigint, text, integer), cell.activate_move(bigint, bigint, text),
    cell.retire(bigint, bigint, text, text), cell.release(bigint, bigint, text, text), cell.discard(bigint, bigint, text, text, text),
    cell.disarm(bigint, bigint, text, integer), cell.forget(bigint, integer) FROM PUBLIC, cell_app;
GRANT EXECUTE ON FUNCTION cell.fence_of(bigint), cell.enter_move(bigint, text, bigint, text[]), cell.arm(bigint, bigint, text, integer),
    cell.reserve(bigint, bigint, text, text), cell.freeze_move(bigint, bigint, text, integer), cell.activate_move(bigint, bigint, text),
    cell.retire(bigint, bigint, text, text), cell.release(bigint, bigint, text, text), cell.discard(bigint, bigint, text, text, text),
    cell.disarm(bigint, bigint, text, integer), cell.forget(bigint, integer) TO cell_move;
