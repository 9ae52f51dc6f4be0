-- A partition that is made after its table was protected is protected with the next start, or by whoever calls
-- cell.protect of either: a policy and the trigger against TRUNCATE are not the parent's.
-- +goose Up

-- +goose StatementBegin
-- Makes t, or what t is a partition of, a tenant table. Repeating it changes nothing and takes no lock. The
-- triggers are called last of all (zz), after those that may change a row.
CREATE OR REPLACE FUNCTION cell.protect(t regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was CONSTANT text := $c$current_setting('cell.tenant', true) IS DISTINCT FROM OLD.tenant_id::text$c$;
    becomes CONSTANT text := $c$current_setting('cell.tenant', true) IS DISTINCT FROM NEW.tenant_id::text$c$;
    part regclass;
BEGIN
    t := coalesce(pg_partition_root(t), t);
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = t)
       OR NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = t AND polname = 'cell_tenant')
       OR 4 <> (SELECT count(*) FROM pg_trigger
                 WHERE tgrelid = t AND tgfoid = 'cell.guard'::regproc AND tgenabled = 'A' AND tgname LIKE 'zz_cell_guard_%') THEN
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('DROP POLICY IF EXISTS cell_tenant ON %s', t);
        EXECUTE format($q$CREATE POLICY cell_tenant ON %s
            USING (tenant_id = nullif(current_setting('cell.tenant', true), '')::bigint)
            WITH CHECK (tenant_id = nullif(current_setting('cell.tenant', true), '')::bigint)$q$, t);
        EXECUTE format('CREATE OR REPLACE TRIGGER zz_cell_guard_insert BEFORE INSERT ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION cell.guard()', t, becomes);
        EXECUTE format('CREATE OR REPLACE TRIGGER zz_cell_guard_update BEFORE UPDATE ON %s FOR EACH ROW WHEN (%s OR %s) EXECUTE FUNCTION cell.guard()', t, was, becomes);
        EXECUTE format('CREATE OR REPLACE TRIGGER zz_cell_guard_delete BEFORE DELETE ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION cell.guard()', t, was);
        EXECUTE format('CREATE OR REPLACE TRIGGER zz_cell_guard_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION cell.guard()', t);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_cell_guard_insert, ENABLE ALWAYS TRIGGER zz_cell_guard_update,
            ENABLE ALWAYS TRIGGER zz_cell_guard_delete, ENABLE ALWAYS TRIGGER zz_cell_guard_truncate', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO cell_app', t);
        IF to_regprocedure('cell.capture(regclass)') IS NOT NULL THEN -- a later migration of ours; Prepare sees to the tables before it
            PERFORM cell.capture(t);
        END IF;
    END IF;
    -- A partition has its parent's row triggers, but a policy and a TRUNCATE of its own.
    FOR part IN
        SELECT c.oid FROM pg_partition_tree(t) p JOIN pg_class c ON c.oid = p.relid
         WHERE c.oid <> t
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                    AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'cell_tenant')
                    AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'zz_cell_guard_truncate' AND tgfoid = 'cell.guard'::regproc AND tgenabled = 'A')) LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
        EXECUTE format('DROP POLICY IF EXISTS cell_tenant ON %s', part);
        EXECUTE format($q$CREATE POLICY cell_tenant ON %s
            USING (tenant_id = nullif(current_setting('cell.tenant', true), '')::bigint)
            WITH CHECK (tenant_id = nullif(current_setting('cell.tenant', true), '')::bigint)$q$, part);
        EXECUTE format('CREATE OR REPLACE TRIGGER zz_cell_guard_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION cell.guard()', part);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_cell_guard_truncate', part);
    END LOOP;
END $$;
-- +goose StatementEnd
