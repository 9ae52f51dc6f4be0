-- A tenant that is deleted leaves a tombstone of its own kind: no move rises over it,
-- and what it has left is purged, after its grace, on the directory's word alone
-- (docs/decisions/0030).
-- +goose Up

ALTER TABLE cell.fence DROP CONSTRAINT fence_state_check;
ALTER TABLE cell.fence ADD CONSTRAINT fence_state_check CHECK (state IN ('active', 'frozen', 'incoming', 'moved', 'suspect', 'deleted'));

-- +goose StatementBegin
-- Epochs never fall, and a tombstone comes back to life only at a higher one.
CREATE OR REPLACE FUNCTION cell.fence_rules() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
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
    begun_at  timestamptz, -- the purge; from then on there is no way back
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
        ON CONFLICT (tenant) DO UPDATE SET epoch = excluded.epoch, begun_at = NULL, purged_at = NULL WHERE d.epoch < excluded.epoch;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER fence_deleted AFTER INSERT OR UPDATE ON cell.fence
    FOR EACH ROW WHEN (NEW.state = 'deleted') EXECUTE FUNCTION cell.fence_deleted();
ALTER TABLE cell.fence ENABLE ALWAYS TRIGGER fence_deleted;

-- +goose StatementBegin
-- The directory says that the tenant is deleted, at that epoch. Whatever the fence was
-- up to it becomes a tombstone, also where there was none, so that nobody is admitted
-- late; transactions under way end first. A fence above it stays: what is said is older
-- than what is known here. Repeating it takes no lock of the tenant.
CREATE FUNCTION cell.delete_tenant(tenant bigint, at_epoch bigint, wait_ms integer)
RETURNS TABLE (epoch bigint, state text, purged boolean, changed boolean)
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
    RETURN QUERY SELECT f.epoch, f.state, coalesce(d.purged_at IS NOT NULL AND d.epoch = f.epoch, false), n > 0
                   FROM cell.fence f LEFT JOIN cell.deletion d ON d.tenant = f.tenant_id WHERE f.tenant_id = delete_tenant.tenant;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Deleted tenants that are not purged here, in pages.
CREATE FUNCTION cell.deletions(after bigint, max integer) RETURNS TABLE (tenant bigint, epoch bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.tenant, f.epoch
      FROM cell.deletion d
      JOIN cell.fence f ON f.tenant_id = d.tenant AND f.state = 'deleted'
     WHERE d.purged_at IS NULL AND d.tenant > after
     ORDER BY d.tenant
     LIMIT max;
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- Opens what a deleted tenant has left to a transaction of its purge, and keeps the
-- fence's row locked to its end. From the first on there is no way back.
CREATE FUNCTION cell.enter_purge(tenant bigint, at_epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cell.must_serve();
    PERFORM FROM cell.fence f WHERE f.tenant_id = enter_purge.tenant AND f.epoch = at_epoch AND f.state = 'deleted' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % is not deleted at epoch %', enter_purge.tenant, at_epoch USING ERRCODE = 'CF004';
    END IF;
    UPDATE cell.deletion d SET begun_at = now() WHERE d.tenant = enter_purge.tenant AND d.begun_at IS NULL;
    PERFORM set_config('cell.tenant', enter_purge.tenant::text, true);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Nothing is left of the tenant that was deleted at that epoch.
CREATE FUNCTION cell.purged(tenant bigint, at_epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.deletion d SET purged_at = now() WHERE d.tenant = purged.tenant AND d.epoch = at_epoch AND d.begun_at IS NOT NULL AND d.purged_at IS NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For operators: a tenant whose deletion the directory has lost, or has to take back,
-- acts again, at an epoch above the tombstone's at which the directory has placed it
-- here since. Not where its purge has begun.
CREATE FUNCTION cell.undelete(tenant bigint, to_epoch bigint) RETURNS SETOF cell.fence
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE cell.fence f SET epoch = to_epoch, state = 'active'
     WHERE f.tenant_id = undelete.tenant AND f.state = 'deleted' AND f.epoch < to_epoch
       AND EXISTS (SELECT FROM cell.deletion d WHERE d.tenant = undelete.tenant AND d.begun_at IS NULL);
    PERFORM pg_notify('cell_fence', undelete.tenant::text);
    RETURN QUERY SELECT f.* FROM cell.fence f WHERE f.tenant_id = undelete.tenant;
END $$;
-- +goose StatementEnd

GRANT USAGE, CREATE ON SCHEMA cell TO cell_fence;
GRANT SELECT, INSERT, UPDATE ON cell.deletion TO cell_fence;
ALTER FUNCTION cell.fence_deleted() OWNER TO cell_fence;
ALTER FUNCTION cell.delete_tenant(bigint, bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.deletions(bigint, integer) OWNER TO cell_fence;
ALTER FUNCTION cell.enter_purge(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.purged(bigint, bigint) OWNER TO cell_fence;
ALTER FUNCTION cell.undelete(bigint, bigint) OWNER TO cell_fence;
REVOKE CREATE ON SCHEMA cell FROM cell_fence;
REVOKE EXECUTE ON FUNCTION cell.fence_deleted(), cell.delete_tenant(bigint, bigint, integer), cell.deletions(bigint, integer),
    cell.enter_purge(bigint, bigint), cell.purged(bigint, bigint), cell.undelete(bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.delete_tenant(bigint, bigint, integer), cell.deletions(bigint, integer) TO cell_app;
GRANT EXECUTE ON FUNCTION cell.enter_purge(bigint, bigint), cell.purged(bigint, bigint) TO cell_move;
