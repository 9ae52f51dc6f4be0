-- Each tenant table's capture has a function of its own. The names of two labels could
-- be one: 'a.b_c' and 'a_b.c', or two that differ only behind what fits into a name. Both
-- triggers then noted the label of the table that came last. And a table that got another
-- name, or another key, was noted as before. Prepare puts right what cell.captured denies.
-- Nothing is locked here.
-- +goose Up

-- +goose StatementBegin
-- As before; columns behind INCLUDE are none of the key's.
CREATE OR REPLACE FUNCTION cell.capture_settings(t regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT CASE WHEN bool_and(y.typtype = 'e' OR coalesce(nullif(y.typbasetype, 0), y.oid) = ANY (ARRAY[
                    'int2', 'int4', 'int8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'name', 'uuid']::regtype[])) THEN ''
                ELSE $s$SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 3
                        SET bytea_output = 'hex' SET lc_monetary = 'C'$s$ END
      FROM pg_index i
     CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, ord)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum AND u.ord <= i.indnkeyatts
      JOIN pg_type y ON y.oid = a.atttypid
     WHERE i.indrelid = t AND i.indisprimary);
-- +goose StatementEnd

-- +goose StatementBegin
-- What the function that notes the keys of t's changed rows does. Names are quoted
-- always: plpgsql reserves words that SQL does not.
CREATE OR REPLACE FUNCTION cell.capture_body(t regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label CONSTANT text := (SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t);
    was   text; -- the key's values before the change, and
    now   text; -- after it
BEGIN
    SELECT coalesce(string_agg(format('OLD.%s::text', k.name), ', ' ORDER BY k.ord), ''),
           coalesce(string_agg(format('NEW.%s::text', k.name), ', ' ORDER BY k.ord), '')
      INTO was, now
      FROM (SELECT u.ord, '"' || replace(a.attname, '"', '""') || '"' AS name
              FROM pg_index i
             CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, ord)
              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum AND a.attname <> 'tenant_id' AND u.ord <= i.indnkeyatts -- behind: INCLUDE
             WHERE i.indrelid = t AND i.indisprimary) k;
    RETURN format($f$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (OLD.tenant_id, %1$L, jsonb_build_array(%2$s));
            END IF;
            IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND jsonb_build_array(%2$s) <> jsonb_build_array(%3$s)) THEN
                INSERT INTO cell.dirty (tenant_id, tbl, pk) VALUES (NEW.tenant_id, %1$L, jsonb_build_array(%3$s));
            END IF;
            RETURN NULL;
        END $f$, label, was, now);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Makes the function that notes the keys of t's changed rows, or makes it anew, and
-- returns its name: the one that t's trigger calls, where no other table's does, so that
-- a change of name or key locks no table. The label's own name, else, where it fits and
-- nobody has it; or one with a hash in it.
CREATE OR REPLACE FUNCTION cell.capture_function(t regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label CONSTANT text := (SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t);
    plain CONSTANT text := 'capture_' || replace(label, '.', '_');
    fn    text;
BEGIN
    WITH used AS (SELECT g.tgrelid = t AS mine, p.proname::text AS name
                    FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                   WHERE g.tgname = 'zz_cell_capture' AND g.tgparentid = 0) -- else a partition's, which is its parent's
    SELECT coalesce((SELECT u.name FROM used u WHERE u.mine AND NOT EXISTS (SELECT FROM used o WHERE o.name = u.name AND NOT o.mine)),
                    CASE WHEN octet_length(plain) < 64 AND NOT EXISTS (SELECT FROM used o WHERE o.name = plain AND NOT o.mine) THEN plain
                         ELSE 'capture_' || md5(label || ' ' || t::oid) END)
      INTO fn;
    fn := 'cell.' || quote_ident(fn);
    EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp %s AS %L',
                   fn, cell.capture_settings(t), cell.capture_body(t));
    GRANT CREATE ON SCHEMA cell TO cell_fence; -- an owner must be able to make what it owns; only for this moment
    EXECUTE format('ALTER FUNCTION %s() OWNER TO cell_fence', fn);
    REVOKE CREATE ON SCHEMA cell FROM cell_fence;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s() FROM PUBLIC', fn);
    RETURN fn;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Whether what changes in t is noted, under its label and key.
CREATE OR REPLACE FUNCTION cell.captured(t regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (
    SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
     WHERE g.tgrelid = t AND g.tgname = 'zz_cell_capture' AND g.tgenabled = 'A'
       AND p.prosrc = cell.capture_body(t) AND (cardinality(p.proconfig) > 1) = (cell.capture_settings(t) <> ''));
-- +goose StatementEnd

-- +goose StatementBegin
-- Installs capture on a tenant table, or puts it right. Who waits for the table's lock,
-- which writers share, keeps all that come later waiting: not long, but again.
CREATE OR REPLACE FUNCTION cell.capture(t regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    fn text;
BEGIN
    IF cell.captured(t) THEN
        RETURN;
    END IF;
    fn := cell.capture_function(t);
    IF cell.captured(t) THEN -- its own function does it now
        RETURN;
    END IF;
    EXECUTE format($q$CREATE OR REPLACE TRIGGER zz_cell_capture AFTER INSERT OR UPDATE OR DELETE ON %s
        FOR EACH ROW WHEN (current_setting('cell.capture', true) = 'on') EXECUTE FUNCTION %s()$q$, t, fn);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_cell_capture', t);
END $$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION cell.capture_body(regclass), cell.captured(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cell.capture_settings(regclass), cell.capture_body(regclass), cell.captured(regclass) TO cell_move;
