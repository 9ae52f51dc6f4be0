-- A database that was promoted or restored serves nobody before it has been
-- reconciled with the directory: docs/MOVE.md, docs/decisions/0006.
-- +goose Up

-- Which run of which server this database was last found to be whole in.
CREATE TABLE cell.serving (
    only_row      boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    home          text,                          -- cell.home(); NULL: never asked
    started       timestamptz,                   -- when that run of the server began
    beat          bigint      NOT NULL DEFAULT 0, -- grows while it serves; the directory is told
    generation    integer     NOT NULL DEFAULT 0, -- how often it was reconciled; snapshots of an older one mean nothing
    admit_above   bigint      NOT NULL DEFAULT 0, -- tenants up to it have a fence, or live elsewhere
    reconciled_at timestamptz
) WITH (fillfactor = 50);

CREATE INDEX fence_suspect ON cell.fence (tenant_id) WHERE state = 'suspect';

-- +goose StatementBegin
-- Where these tables are: the cluster, its timeline, the database, and the table
-- itself. A promoted or recovered server has another timeline; what was loaded
-- from a dump is in another cluster, database or table. It fails on a standby.
CREATE FUNCTION cell.home() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN format('%s/%s/%s/%s', (SELECT c.system_identifier FROM pg_control_system() c),
              substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
              (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()), 'cell.serving'::regclass::oid);
-- +goose StatementEnd

-- +goose StatementBegin
-- Refuses with CF002 while the database is suspect: in another run of the server
-- than the one it was found whole in, or on a standby. A run of the server outlives
-- none of its sessions, so a session that was let through once is not asked again.
CREATE FUNCTION cell.must_serve() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('cell.serving', true) = 'on' THEN
        RETURN;
    ELSIF pg_is_in_recovery() THEN
        PERFORM cell.refuse('suspect', 0, NULL);
    ELSIF NOT EXISTS (SELECT FROM cell.serving s WHERE s.started = pg_postmaster_start_time() AND s.home = cell.home()) THEN
        PERFORM cell.refuse('suspect', 0, NULL);
    END IF;
    PERFORM set_config('cell.serving', 'on', false);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- No step of a fence, whoever takes it, changes anything in a suspect database.
CREATE FUNCTION cell.fence_serves() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('cell.reconciling', true) IS DISTINCT FROM 'on' THEN
        PERFORM cell.must_serve();
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER fence_serves BEFORE INSERT OR UPDATE OR DELETE ON cell.fence
    FOR EACH STATEMENT EXECUTE FUNCTION cell.fence_serves();
ALTER TABLE cell.fence ENABLE ALWAYS TRIGGER fence_serves;

-- +goose StatementBegin
-- What the cell's agent has to know before it decides.
CREATE FUNCTION cell.condition(OUT serves boolean, OUT standby boolean, OUT continues boolean, OUT beat bigint, OUT suspects bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s cell.serving;
BEGIN
    SELECT * INTO s FROM cell.serving;
    standby := pg_is_in_recovery();
    continues := NOT standby AND s.home IS NOT NULL; -- then that it is the same home, below
    IF continues THEN
        continues := s.home = cell.home();
    END IF;
    serves := continues AND s.started IS NOT DISTINCT FROM pg_postmaster_start_time();
    beat := s.beat;
    SELECT count(*) INTO suspects FROM cell.fence f WHERE f.state = 'suspect';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- The next number for the directory to keep, durable when it is known.
CREATE FUNCTION cell.beat() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM cell.must_serve();
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.serving s SET beat = s.beat + 1 RETURNING s.beat INTO n;
    RETURN n;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- One agent at a time. The number is a session lock's, of which 0x7D is the top byte.
CREATE FUNCTION cell.lock_serving() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(9007199254740992002);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Serves again after a plain restart: the same home, and nothing is missing of what
-- the witness, the greatest number that a beat is known to have given, tells of.
CREATE FUNCTION cell.resume(witness bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_serving();
    UPDATE cell.serving s SET started = pg_postmaster_start_time(), beat = s.beat + 1
     WHERE s.home = cell.home() AND witness > 0 AND s.beat >= witness;
    IF FOUND THEN
        PERFORM pg_notify('cell_fence', '');
    END IF;
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- All fences, in pages: what the agent compares with the directory. landed says
-- that the whole tenant is here, as its move to here has left it.
CREATE FUNCTION cell.fences(after bigint, max integer)
RETURNS TABLE (tenant_id bigint, epoch bigint, state text, capture boolean, move_id text, moved_to text, landed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.tenant_id, f.epoch, f.state, f.capture, coalesce(f.move_id, ''), coalesce(f.moved_to, ''),
           coalesce(r.final AND r.move_id = f.move_id, false)
      FROM cell.fence f
      LEFT JOIN cell.received r ON r.tenant_id = f.tenant_id
     WHERE f.tenant_id > after
     ORDER BY f.tenant_id
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- The end of a reconciliation, all of it or nothing: the fences become what the
-- directory says, given as arrays of one row per tenant, and the database serves.
-- void names the moves whose copy here is not what they left: an undo of such a one
-- copies everything. Only a suspect database is changed.
CREATE FUNCTION cell.reconcile(witness bigint, known bigint, tenants bigint[], epochs bigint[], states text[], captures boolean[],
                               moves text[], cells text[], void text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
    UPDATE cell.serving s
       SET home = cell.home(), started = pg_postmaster_start_time(), beat = greatest(s.beat, witness) + 1,
           generation = s.generation + 1, admit_above = greatest(s.admit_above, known), reconciled_at = now();
    PERFORM set_config('cell.reconciling', '', true);
    PERFORM pg_notify('cell_fence', '');
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For operators: a suspect tenant is served from what is here, although the
-- directory's record says that there was more.
CREATE FUNCTION cell.accept(tenant bigint) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.fence f SET state = 'active' WHERE f.tenant_id = tenant AND f.state = 'suspect';
    PERFORM pg_notify('cell_fence', tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- The functions below are those of 00001 and 00010, with what is marked "suspect".

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.enter(tenant bigint, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    f    record;
    got  pg_catalog.text;
BEGIN
    IF tenant IS NULL OR tenant OPERATOR(pg_catalog.<=) 0 OR tenant OPERATOR(pg_catalog.>=) 72057594037927936 THEN
        RAISE EXCEPTION 'tenant % is out of range', tenant USING ERRCODE = '22023';
    END IF;
    got := pg_catalog.current_setting('cell.serving', true); -- suspect: cell.must_serve's first line, inlined
    IF got IS NULL OR got OPERATOR(pg_catalog.<>) 'on' THEN
        PERFORM cell.must_serve();
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
-- A tenant may be unknown here because what told of it was lost: suspect.
CREATE FUNCTION cell.may_admit(tenant bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT tenant > (SELECT s.admit_above FROM cell.serving s);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.admit(tenant bigint, epoch bigint) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.must_serve(); -- suspect; the fence's trigger is too late on a standby
    IF epoch = 1 AND cell.may_admit(tenant) THEN -- suspect
        INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (tenant, 1, 'active')
            ON CONFLICT (tenant_id) DO NOTHING;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.arm(tenant bigint, base bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF base = 1 AND cell.may_admit(tenant) THEN -- suspect
        INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (tenant, 1, 'active') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM cell.lock_tenant(tenant, wait_ms);
    DELETE FROM cell.dirty d USING cell.fence f
     WHERE d.tenant_id = tenant AND f.tenant_id = tenant AND f.epoch = base AND NOT f.capture;
    UPDATE cell.fence f SET capture = true, move_id = move
     WHERE f.tenant_id = tenant AND f.epoch = base AND f.state = 'active';
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.release(tenant bigint, base bigint, move text, undoes text) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    IF cell.may_admit(tenant) THEN -- suspect
        INSERT INTO cell.fence AS f (tenant_id, epoch, state) VALUES (tenant, base + 2, 'active') ON CONFLICT DO NOTHING;
    END IF;
    UPDATE cell.fence f
       SET state = 'active', epoch = base + 2, capture = undoes IS NOT NULL, move_id = coalesce(undoes, move)
     WHERE f.tenant_id = tenant
       AND ((f.epoch = base AND f.state = 'active') OR (f.epoch = base + 1 AND f.state = 'frozen' AND f.move_id = move));
    PERFORM pg_notify('cell_fence', tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

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
    IF undoes IS NULL OR kept IS TRUE THEN
        INSERT INTO cell.fence AS f (tenant_id, epoch, state, move_id) VALUES (tenant, base + 1, 'incoming', move)
            ON CONFLICT (tenant_id) DO UPDATE SET epoch = base + 1, state = 'incoming', move_id = move, capture = false
         WHERE f.state IN ('moved', 'incoming') AND f.epoch < base + 1;
    END IF;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- A tombstone of the move may be at a later epoch than the move's: an undo that was
-- aborted, or a reconciliation, has raised it.
CREATE OR REPLACE FUNCTION cell.enter_move(tenant bigint, move text, at_epoch bigint, states text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.must_serve(); -- suspect
    PERFORM FROM cell.fence f
      WHERE f.tenant_id = tenant AND f.move_id = move AND f.state = ANY (states)
        AND (f.epoch = at_epoch OR f.state = 'moved' AND f.epoch > at_epoch)
        FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % does not await move % at epoch %', tenant, move, at_epoch USING ERRCODE = 'CF004';
    END IF;
    PERFORM set_config('cell.tenant', tenant::text, true);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- The owner's epoch, too, was raised by an undo that was aborted.
CREATE OR REPLACE FUNCTION cell.disarm(tenant bigint, at_epoch bigint, move text, wait_ms integer) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.lock_tenant(tenant, wait_ms);
    UPDATE cell.fence f SET capture = false, move_id = NULL
     WHERE f.tenant_id = tenant AND f.epoch >= at_epoch AND f.state = 'active' AND f.move_id = move;
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = tenant;
END $$;
-- +goose StatementEnd

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
GRANT SELECT, INSERT, UPDATE ON cell.serving TO cell_fence;
ALTER FUNCTION cell.home() OWNER TO cell_fence;
ALTER FUNCTION cell.must_serve() OWNER TO cell_fence;
ALTER FUNCTION cell.fence_serves() OWNER TO cell_fence;
ALTER FUNCTION cell.condition() OWNER TO cell_fence;
ALTER FUNCTION cell.beat() OWNER TO cell_fence;
ALTER FUNCTION cell.lock_serving() OWNER TO cell_fence;
ALTER FUNCTION cell.resume(bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.fences(bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.reconcile(bigint, bigint, bigint[], bigint[], text[], boolean[], text[], text[], text[]) OWNER TO cell_fence;
ALTER FUNCTION cell.accept(bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.may_admit(bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.home(), cell.must_serve(), cell.fence_serves(), cell.condition(), cell.beat(), cell.lock_serving(), cell.resume(bigint),
    cell.fences(bigint, integer), cell.reconcile(bigint, bigint, bigint[], bigint[], text[], boolean[], text[], text[], text[]),
    cell.accept(bigint), cell.may_admit(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.must_serve() TO cell_app, cell_move;
GRANT EXECUTE ON FUNCTION cell.condition(), cell.beat(), cell.resume(bigint), cell.fences(bigint, integer),
    cell.reconcile(bigint, bigint, bigint[], bigint[], text[], boolean[], text[], text[], text[]) TO cell_app;
GRANT SELECT ON cell.serving TO cell_move;

-- A database that was made in this run of the server has lost nothing. Another one,
-- which is brought up to date here, has to be reconciled first.
INSERT INTO cell.serving (home, started)
SELECT cell.home(), pg_postmaster_start_time() FROM cell.incarnation i WHERE i.made_at >= pg_postmaster_start_time()
UNION ALL
SELECT NULL, NULL FROM cell.incarnation i WHERE i.made_at < pg_postmaster_start_time();
