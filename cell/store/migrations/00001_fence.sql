-- The fence: may this tenant at this epoch act in this cell? One row per tenant
-- that ever was here; a row is a tombstone after the tenant moved on.
-- +goose Up

CREATE TABLE cell.fence (
    -- The bounds keep cell.lock_key free of collisions.
    tenant_id  bigint      NOT NULL PRIMARY KEY CHECK (tenant_id > 0 AND tenant_id < 72057594037927936),
    epoch      bigint      NOT NULL CHECK (epoch > 0),
    state      text        NOT NULL CHECK (state IN ('active', 'frozen', 'incoming', 'moved', 'suspect')),
    capture    boolean     NOT NULL DEFAULT false, -- transactions record the keys they change
    move_id    text,                               -- the move that wrote the row last
    moved_to   text,                               -- the cell that has the tenant now
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (state <> 'moved' OR moved_to IS NOT NULL)
);

-- +goose StatementBegin
-- Epochs never fall, and a tombstone comes back to life only at a higher one.
CREATE FUNCTION cell.fence_rules() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.epoch < OLD.epoch
       OR (OLD.state = 'moved' AND NEW.state <> 'moved' AND NEW.epoch <= OLD.epoch) THEN
        RAISE EXCEPTION 'fence of tenant %: % at % cannot become % at %',
            OLD.tenant_id, OLD.state, OLD.epoch, NEW.state, NEW.epoch USING ERRCODE = 'CF011';
    END IF;
    NEW.changed_at := now();
    RETURN NEW;
END $$;
-- +goose StatementEnd

CREATE TRIGGER fence_rules BEFORE UPDATE ON cell.fence
    FOR EACH ROW EXECUTE FUNCTION cell.fence_rules();

-- +goose StatementBegin
-- The key of a tenant's advisory lock: 0x7C in the top byte, the tenant below it.
-- No two tenants share one, and none is goose's (a 32-bit number), one of our
-- session locks (0x7D), or in the space of two-number keys.
CREATE FUNCTION cell.lock_key(tenant bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN tenant | 8935141660703064064;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION cell.refuse(state text, epoch bigint, moved_to text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the fence refuses: %', state USING
        ERRCODE = CASE state WHEN 'suspect' THEN 'CF002' ELSE 'CF001' END,
        DETAIL = json_build_object('state', state, 'epoch', epoch, 'moved_to', moved_to)::text;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- First statement of every tenant transaction, read or write.
--
-- The shared lock comes first and the read is a statement of its own, with a
-- snapshot taken after the lock was granted: whoever freezes holds the lock
-- exclusively, so this either runs before the freeze, which then waits for the
-- whole transaction, or sees it. One statement that did both would read with a
-- snapshot from before the wait. Above READ COMMITTED the snapshot is the
-- transaction's, so the row is locked too: an old snapshot becomes 40001.
--
-- It is on every transaction's way, so it is written for speed: every function
-- and operator is qualified, which is as safe as a search_path of its own and
-- saves setting one; assignments are cheaper than PERFORM.
CREATE FUNCTION cell.enter(tenant bigint, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    f    record;
    got  pg_catalog.text;
BEGIN
    IF tenant IS NULL OR tenant OPERATOR(pg_catalog.<=) 0 OR tenant OPERATOR(pg_catalog.>=) 72057594037927936 THEN
        RAISE EXCEPTION 'tenant % is out of range', tenant USING ERRCODE = '22023';
    END IF;
    got := pg_catalog.current_setting('cell.tenant', true);
    IF got OPERATOR(pg_catalog.<>) '' AND got OPERATOR(pg_catalog.<>) tenant::pg_catalog.text THEN
        RAISE EXCEPTION 'a transaction belongs to one tenant' USING ERRCODE = 'CF003';
    END IF;

    got := pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064); -- cell.lock_key, inlined

    got := pg_catalog.current_setting('transaction_isolation');
    IF got OPERATOR(pg_catalog.=) 'read committed' OR got OPERATOR(pg_catalog.=) 'read uncommitted' THEN
        SELECT r.epoch, r.state, r.capture, r.moved_to INTO f
          FROM cell.fence r WHERE r.tenant_id OPERATOR(pg_catalog.=) tenant;
    ELSE
        SELECT r.epoch, r.state, r.capture, r.moved_to INTO f
          FROM cell.fence r WHERE r.tenant_id OPERATOR(pg_catalog.=) tenant FOR SHARE;
    END IF;
    IF NOT FOUND THEN
        PERFORM cell.refuse('absent', 0, NULL);
    ELSIF enter.epoch IS NULL OR f.state OPERATOR(pg_catalog.<>) 'active' OR f.epoch OPERATOR(pg_catalog.<>) enter.epoch THEN
        PERFORM cell.refuse(f.state, f.epoch, f.moved_to);
    END IF;

    got := pg_catalog.set_config('cell.tenant', tenant::pg_catalog.text, true);
    IF f.capture THEN
        got := pg_catalog.set_config('cell.capture', 'on', true);
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION cell.fence_of(tenant bigint) RETURNS SETOF cell.fence
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- A tenant's first use of its first cell. Only at epoch 1, and never over a row
-- that is there: a tombstone stays one.
CREATE FUNCTION cell.admit(tenant bigint, epoch bigint) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF epoch = 1 THEN
        INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (tenant, 1, 'active')
            ON CONFLICT (tenant_id) DO NOTHING;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Takes the tenant's lock exclusively, waiting at most wait_ms: when it returns,
-- every transaction that entered before has ended, and every later one sees what
-- is written next. A wait makes the tenant's new transactions queue behind it.
CREATE FUNCTION cell.lock_tenant(tenant bigint, wait_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('lock_timeout', wait_ms::text, true);
    PERFORM set_config('synchronous_commit', 'on', true); -- what the fence says must survive a crash
    PERFORM pg_advisory_xact_lock(cell.lock_key(tenant));
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- active at epoch e -> frozen at e+1, without a move: the tenant stands still where
-- it is. Anything else changes nothing; the caller reads from the row whether it is
-- the one it wanted. A tenant that is armed belongs to its move (cell.freeze_move).
CREATE FUNCTION cell.freeze(tenant bigint, at_epoch bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_tenant(tenant, wait_ms);
    UPDATE cell.fence f SET state = 'frozen', epoch = f.epoch + 1, move_id = move
     WHERE f.tenant_id = tenant AND f.epoch = at_epoch AND f.state = 'active' AND NOT f.capture;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- frozen at from_epoch in this name, and not by a move -> active at to_epoch.
CREATE FUNCTION cell.activate(tenant bigint, from_epoch bigint, to_epoch bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_tenant(tenant, wait_ms);
    UPDATE cell.fence f SET state = 'active', epoch = to_epoch
     WHERE f.tenant_id = tenant AND f.epoch = from_epoch AND to_epoch >= from_epoch
       AND f.state = 'frozen' AND NOT f.capture AND f.move_id = move;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- Who this database is: made once, kept for ever. A cell registers with it, so
-- that another database cannot pass for this one.
CREATE TABLE cell.incarnation (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid    NOT NULL DEFAULT gen_random_uuid(),
    made_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO cell.incarnation DEFAULT VALUES;

-- cell_fence owns the gate; the application may pass through it and not touch the row.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA cell FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
GRANT SELECT, INSERT, UPDATE ON cell.fence TO cell_fence;
ALTER FUNCTION cell.lock_key(bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.refuse(text, bigint, text) OWNER TO cell_fence;
ALTER FUNCTION cell.lock_tenant(bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.enter(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.fence_of(bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.admit(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.freeze(bigint, bigint, text, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.activate(bigint, bigint, bigint, text, integer) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
GRANT USAGE ON SCHEMA cell TO cell_app;
GRANT SELECT ON cell.incarnation TO cell_app;
GRANT EXECUTE ON FUNCTION cell.enter(bigint, bigint), cell.fence_of(bigint), cell.admit(bigint, bigint),
    cell.freeze(bigint, bigint, text, integer), cell.activate(bigint, bigint, bigint, text, integer) TO cell_app;
