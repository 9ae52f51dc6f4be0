-- A tenant that is deleted leaves a tombstone of its own kind: no move rises over it,
-- and what it has left is purged, after its grace, on the directory's word alone
-- (docs/decisions/0030).
-- +goose Up

-- +goose StatementBegin
-- Epochs never fall, and a tombstone comes back to life only at a higher one. No
-- reconciliation changes who is deleted: a process of the release before, which does not
-- know the state, would make it something else, or fail as a whole.
CREATE OR REPLACE FUNCTION cell.fence_rules() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state = 'deleted' AND current_setting('cell.reconciling', true) = 'on' THEN
        RETURN OLD;
    END IF;
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.epoch < OLD.epoch
       OR (OLD.state = 'moved' AND NEW.state NOT IN ('moved', 'deleted') AND NEW.epoch <= OLD.epoch)
       OR (OLD.state = 'deleted' AND NEW.state <> 'deleted' AND NEW.epoch <= OLD.epoch) THEN
        RAISE EXCEPTION 'fence of tenant %: % at % cannot become % at %',
            OLD.tenant_id, OLD.state, OLD.epoch, NEW.state, NEW.epoch USING ERRCODE = 'CF011';
    END IF;
    NEW.changed_at := now();
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- What became of the rows of a deleted tenant: one row for each fence that is, or was,
-- deleted. It is no tenant table: it stays when the tenant's rows go.
CREATE TABLE cell.deletion (
    tenant    bigint      NOT NULL PRIMARY KEY,
    epoch     bigint      NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(), -- how long it stands still at that epoch
    begun_at  timestamptz, -- the purge; from then on there is no way back, at no epoch
    purged_at timestamptz  -- nothing is left but the tombstone
);
CREATE INDEX deletion_waiting ON cell.deletion (tenant) WHERE purged_at IS NULL;

-- +goose StatementBegin
-- Whoever makes a fence deleted, a reconciliation too, has it purged. A deletion at a
-- later epoch is purged anew.
CREATE FUNCTION cell.fence_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO cell.deletion AS d (tenant, epoch) VALUES (NEW.tenant_id, NEW.epoch)
        ON CONFLICT (tenant) DO UPDATE SET epoch = excluded.epoch, since = excluded.since, purged_at = NULL WHERE d.epoch < excluded.epoch;
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
-- Whether who stands still since then has done so for long enough to be purged: somebody
-- may have noticed that the tenant should be served. The directory's grace cannot stand
-- for it, which may have been over before this cell heard of the deletion.
CREATE FUNCTION cell.rested(since timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN since <= now() - interval '1 hour';
-- +goose StatementEnd

-- +goose StatementBegin
-- The directory says that the tenant is deleted, at that epoch. Whatever the fence was
-- up to it becomes a tombstone, also where there was none, so that nobody is admitted
-- late; transactions under way end first. A fence above it stays: what is said is older
-- than what is known here. Repeating it takes no lock of the tenant.
CREATE FUNCTION cell.delete_tenant(tenant bigint, at_epoch bigint, wait_ms integer)
RETURNS TABLE (epoch bigint, state text, rested boolean, purged boolean, changed boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    n bigint := 0;
BEGIN
    PERFORM cell.must_serve();
    PERFORM FROM cell.fence f WHERE f.tenant_id = tenant AND (f.epoch > at_epoch OR f.epoch = at_epoch AND f.state = 'deleted');
    IF NOT FOUND THEN
        PERFORM cell.lock_tenant(tenant, wait_ms);
        INSERT INTO cell.fence AS f (tenant_id, epoch, state) VALUES (tenant, at_epoch, 'deleted')
            ON CONFLICT (tenant_id) DO UPDATE SET epoch = at_epoch, state = 'deleted', capture = false, move_id = NULL, moved_to = NULL
         WHERE f.epoch <= at_epoch;
        GET DIAGNOSTICS n = ROW_COUNT;
        PERFORM pg_notify('cell_fence', tenant::text);
    END IF;
    RETURN QUERY SELECT f.epoch, f.state, coalesce(cell.rested(d.since), false), coalesce(d.purged_at IS NOT NULL AND d.epoch = f.epoch, false), n > 0
                   FROM cell.fence f LEFT JOIN cell.deletion d ON d.tenant = f.tenant_id WHERE f.tenant_id = delete_tenant.tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Deleted tenants that are not purged here, in pages.
CREATE FUNCTION cell.deletions(after bigint, max integer) RETURNS TABLE (tenant bigint, epoch bigint, rested boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.tenant, f.epoch, cell.rested(d.since)
      FROM cell.deletion d
      JOIN cell.fence f ON f.tenant_id = d.tenant AND f.state = 'deleted'
     WHERE d.purged_at IS NULL AND d.tenant > after
     ORDER BY d.tenant
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- The greatest id of a tenant that was ever here, or that the directory had given when it
-- was last asked after a loss: fences stay, also of who is purged, and up to that id a
-- tenant without one is refused. A directory that was restored must not give it to
-- somebody else.
CREATE FUNCTION cell.greatest_tenant() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN greatest((SELECT coalesce(max(f.tenant_id), 0) FROM cell.fence f), (SELECT s.admit_above FROM cell.serving s));
-- +goose StatementEnd

-- +goose StatementBegin
-- Opens what a deleted tenant has left to a transaction of its purge, and keeps the
-- fence's row locked to its end. From the first on there is no way back. Returns which
-- server, on which timeline, it is and how often it was reconciled: what was deleted in another
-- generation may be there again.
CREATE FUNCTION cell.enter_purge(tenant bigint, at_epoch bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.must_serve();
    PERFORM FROM cell.fence f WHERE f.tenant_id = enter_purge.tenant AND f.epoch = at_epoch AND f.state = 'deleted' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % is not deleted at epoch %', enter_purge.tenant, at_epoch USING ERRCODE = 'CF004';
    END IF;
    UPDATE cell.deletion d SET begun_at = now() WHERE d.tenant = enter_purge.tenant AND d.begun_at IS NULL;
    PERFORM set_config('cell.tenant', enter_purge.tenant::text, true);
    RETURN (SELECT s.generation || '/' || s.home FROM cell.serving s);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Nothing is left of the tenant that was deleted at that epoch, by a purge that was in
-- that generation from its first transaction on: else a promotion has lost some of it.
CREATE FUNCTION cell.purged(tenant bigint, at_epoch bigint, of_generation text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.must_serve();
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.deletion d SET purged_at = coalesce(d.purged_at, now())
     WHERE d.tenant = purged.tenant AND d.epoch = at_epoch AND d.begun_at IS NOT NULL
       AND of_generation = (SELECT s.generation || '/' || s.home FROM cell.serving s);
    RETURN FOUND;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For operators: a tenant whose deletion the directory has lost, or has to take back,
-- acts again, at an epoch above the tombstone's at which the directory has placed it
-- here since. Not where its purge has begun: both rows are locked before that is read, since
-- a purge that begins meanwhile holds the first, and changes the second.
CREATE FUNCTION cell.undelete(tenant bigint, to_epoch bigint) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM FROM cell.fence f WHERE f.tenant_id = undelete.tenant FOR UPDATE;
    PERFORM FROM cell.deletion d WHERE d.tenant = undelete.tenant AND d.begun_at IS NULL FOR UPDATE;
    IF FOUND THEN
        UPDATE cell.fence f SET epoch = to_epoch, state = 'active'
         WHERE f.tenant_id = undelete.tenant AND f.state = 'deleted' AND f.epoch < to_epoch;
    END IF;
    PERFORM pg_notify('cell_fence', undelete.tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = undelete.tenant;
END $$;
-- +goose StatementEnd

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
GRANT SELECT, INSERT, UPDATE ON cell.deletion TO cell_fence;
ALTER FUNCTION cell.rested(timestamptz) OWNER TO cell_fence;
ALTER FUNCTION cell.greatest_tenant() OWNER TO cell_fence;
ALTER FUNCTION cell.fence_deleted() OWNER TO cell_fence;
ALTER FUNCTION cell.delete_tenant(bigint, bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.deletions(bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.enter_purge(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.purged(bigint, bigint, text) OWNER TO cell_fence;
ALTER FUNCTION cell.undelete(bigint, bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.rested(timestamptz), cell.greatest_tenant(), cell.fence_deleted(), cell.delete_tenant(bigint, bigint, integer), cell.deletions(bigint, integer),
    cell.enter_purge(bigint, bigint), cell.purged(bigint, bigint, text), cell.undelete(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.delete_tenant(bigint, bigint, integer), cell.deletions(bigint, integer), cell.greatest_tenant() TO cell_app;
GRANT EXECUTE ON FUNCTION cell.enter_purge(bigint, bigint), cell.purged(bigint, bigint, text) TO cell_move;

-- Every transaction of a tenant has read the fences and keeps a lock on their table to its
-- end, and whoever waits for the exclusive one keeps all that come later waiting, of every
-- tenant: not long, but again. It comes last, and what it is for needs no look at the rows.
-- +goose StatementBegin
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '100ms', true);
    FOR i IN 1..100 LOOP -- and not for ever, should nobody be left who waits for it
        BEGIN
            LOCK TABLE cell.fence IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.9);
        END;
    END LOOP;
    RAISE EXCEPTION 'transactions of tenants hold cell.fence for too long' USING ERRCODE = '55P03';
END $$;
-- +goose StatementEnd
ALTER TABLE cell.fence DROP CONSTRAINT fence_state_check;
ALTER TABLE cell.fence ADD CONSTRAINT fence_state_check CHECK (state IN ('active', 'frozen', 'incoming', 'moved', 'suspect', 'deleted')) NOT VALID;
CREATE TRIGGER fence_deleted AFTER INSERT OR UPDATE ON cell.fence
    FOR EACH ROW WHEN (NEW.state = 'deleted') EXECUTE FUNCTION cell.fence_deleted();
ALTER TABLE cell.fence ENABLE ALWAYS TRIGGER fence_deleted;
