-- What nearly every transaction needs of cell.enter, in as few expressions as can be:
-- plpgsql prepares each of them anew in every transaction, which was half of what
-- cell.enter cost. All else goes the way it went, in cell.enter_slowly.
-- +goose Up

-- +goose StatementBegin
-- cell.enter as 00011 made it: for a session's first transaction, for isolation levels
-- above READ COMMITTED, for a transaction that enters twice, and for every refusal.
CREATE FUNCTION cell.enter_slowly(tenant bigint, epoch bigint) RETURNS void
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
    ELSIF enter_slowly.epoch IS NULL OR f.state OPERATOR(pg_catalog.<>) 'active' OR f.epoch OPERATOR(pg_catalog.<>) enter_slowly.epoch THEN
        PERFORM cell.refuse(f.state, f.epoch, f.moved_to);
    END IF;

    got := pg_catalog.set_config('cell.tenant', tenant::pg_catalog.text, true);
    IF f.capture THEN
        got := pg_catalog.set_config('cell.capture', 'on', true);
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- The lock is the last thing of the first statement and is taken where CASE says that
-- the rest is true; the second statement reads the fence with a snapshot from after it.
CREATE OR REPLACE FUNCTION cell.enter(tenant bigint, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
BEGIN
    IF (CASE WHEN tenant OPERATOR(pg_catalog.>) 0 AND tenant OPERATOR(pg_catalog.<) 72057594037927936
              AND pg_catalog.current_setting('cell.serving', true) OPERATOR(pg_catalog.=) 'on'
              AND coalesce(pg_catalog.current_setting('cell.tenant', true), '') OPERATOR(pg_catalog.=) ''
              AND pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed'
             THEN pg_catalog.pg_advisory_xact_lock_shared(tenant OPERATOR(pg_catalog.|) 8935141660703064064) IS NOT NULL END)
    THEN
        PERFORM pg_catalog.set_config('cell.tenant', tenant::pg_catalog.text, true),
                CASE WHEN r.capture THEN pg_catalog.set_config('cell.capture', 'on', true) END
           FROM cell.fence r
          WHERE r.tenant_id OPERATOR(pg_catalog.=) tenant AND r.epoch OPERATOR(pg_catalog.=) enter.epoch AND r.state OPERATOR(pg_catalog.=) 'active';
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    PERFORM cell.enter_slowly(tenant, epoch);
END $$;
-- +goose StatementEnd

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
ALTER FUNCTION cell.enter_slowly(bigint, bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.enter_slowly(bigint, bigint) FROM PUBLIC;
