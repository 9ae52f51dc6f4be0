-- The key of a changed row is noted in one form. The text of a time, a float or a
-- bytea depends on settings that each session may change: what was noted in one
-- session did not find its row in another, and the change did not move. Only tables
-- whose key has such a type pay for it: a function that sets something costs more.
-- +goose Up

-- +goose StatementBegin
-- What the capture function of t sets: nothing, where every column of the primary key
-- is of a type whose text depends on its value alone. Keep in step with transfer.Open,
-- whose sessions read the keys.
CREATE FUNCTION cell.capture_settings(t regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT CASE WHEN bool_and(y.typtype = 'e' OR coalesce(nullif(y.typbasetype, 0), y.oid) = ANY (ARRAY[
                    'int2', 'int4', 'int8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'name', 'uuid']::regtype[])) THEN ''
                ELSE $s$SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 3
                        SET bytea_output = 'hex' SET lc_monetary = 'C'$s$ END
      FROM pg_index i
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[])
      JOIN pg_type y ON y.oid = a.atttypid
     WHERE i.indrelid = t AND i.indisprimary);
-- +goose StatementEnd

-- +goose StatementBegin
-- Makes the function that notes the keys of t's changed rows, or makes it anew, and
-- returns its name. Names are quoted always: plpgsql reserves words that SQL does not.
CREATE FUNCTION cell.capture_function(t regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label CONSTANT text := (SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t);
    fn    CONSTANT text := 'cell.' || quote_ident('capture_' || replace(label, '.', '_'));
    was   text; -- the key's values before the change, and
    now   text; -- after it
BEGIN
    SELECT coalesce(string_agg(format('OLD.%s::text', k.name), ', ' ORDER BY k.ord), ''),
           coalesce(string_agg(format('NEW.%s::text', k.name), ', ' ORDER BY k.ord), '')
      INTO was, now
      FROM (SELECT u.ord, '"' || replace(a.attname, '"', '""') || '"' AS name
              FROM pg_index i
             CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, ord)
              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum AND a.attname <> 'tenant_id'
             WHERE i.indrelid = t AND i.indisprimary) k;
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION %1$s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp %5$s AS $t$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (OLD.tenant_id, %2$L, jsonb_build_array(%3$s));
            END IF;
            IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND jsonb_build_array(%3$s) <> jsonb_build_array(%4$s)) THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (NEW.tenant_id, %2$L, jsonb_build_array(%4$s));
            END IF;
            RETURN NULL;
        END $t$ $f$, fn, label, was, now, cell.capture_settings(t));
    GRANT CREATE ON SCHEMA cell TO cell_fence; -- an owner must be able to make what it owns; only for this moment
    EXECUTE format('ALTER FUNCTION %s() OWNER TO cell_fence', fn);
    REVOKE CREATE ON SCHEMA cell FROM cell_fence;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s() FROM PUBLIC', fn);
    RETURN fn;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cell.capture(t regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fn CONSTANT text := cell.capture_function(t);
BEGIN
    EXECUTE format($q$CREATE OR REPLACE TRIGGER zz_cell_capture AFTER INSERT OR UPDATE OR DELETE ON %s
        FOR EACH ROW WHEN (current_setting('cell.capture', true) = 'on') EXECUTE FUNCTION %s()$q$, t, fn);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_cell_capture', t);
END $$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.capture_settings(regclass), cell.capture_function(regclass) FROM PUBLIC;

-- +goose StatementBegin
-- The functions of the tables that have one; their triggers stay as they are, so that
-- no table is locked.
DO $$
BEGIN
    PERFORM cell.capture_function(g.tgrelid) FROM pg_catalog.pg_trigger g WHERE g.tgname = 'zz_cell_capture' AND g.tgparentid = 0;
END $$;
-- +goose StatementEnd
