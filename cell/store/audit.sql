WITH app AS (
    SELECT oid, rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication
      FROM pg_catalog.pg_roles
     WHERE rolname = coalesce(nullif($1::text, ''), current_user)
), relation AS (
    SELECT c.oid, c.relkind, c.relowner, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
           n.nspname, n.nspname || '.' || c.relname AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
       -- The gate and the move read these across tenants; the application has no right on them.
       AND n.nspname || '.' || c.relname NOT IN ('cell.fence', 'cell.dirty', 'cell.received')
), tenant AS (
    SELECT r.*, a.attnum, a.attnotnull, a.atttypid
      FROM relation r
      JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
     WHERE r.relkind IN ('r', 'p', 'f')
)
-- The role.
SELECT 'role ' || rolname || ' is superuser, or may bypass row security, create roles or databases, or replicate'
  FROM app WHERE rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
UNION ALL
SELECT 'role ' || app.rolname || ' is a member of ' || r.rolname || ', which has powers'
  FROM app JOIN pg_catalog.pg_roles r ON r.oid <> app.oid AND pg_catalog.pg_has_role(app.oid, r.oid, 'MEMBER')
 WHERE NOT app.rolsuper
   AND (r.rolsuper OR r.rolbypassrls OR r.rolname IN ('cell_fence', 'cell_scan', 'cell_move', 'pg_read_all_data', 'pg_write_all_data',
                                                             'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
UNION ALL
SELECT 'role ' || app.rolname || ' may create in schema ' || n.nspname
  FROM app JOIN pg_catalog.pg_namespace n ON n.nspname NOT LIKE 'pg\_%'
 WHERE NOT app.rolsuper AND pg_catalog.has_schema_privilege(app.oid, n.oid, 'CREATE')
UNION ALL
SELECT 'role ' || app.rolname || ' has rights on ' || t
  FROM app, unnest(ARRAY['cell.fence', 'cell.dirty', 'cell.received', 'cell.deletion']) AS u (t) WHERE NOT app.rolsuper
   AND (pg_catalog.has_table_privilege(app.oid, t, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        OR pg_catalog.has_any_column_privilege(app.oid, t, 'SELECT, INSERT, UPDATE, REFERENCES'))
UNION ALL
-- Tenant tables.
SELECT 'role ' || app.rolname || ' owns ' || t.name
  FROM app, tenant t WHERE NOT app.rolsuper AND pg_catalog.pg_has_role(app.oid, t.relowner, 'MEMBER')
UNION ALL
SELECT 'role ' || app.rolname || ' may truncate, or make triggers or references on, ' || t.name
  FROM app, tenant t WHERE NOT app.rolsuper
   AND (pg_catalog.has_table_privilege(app.oid, t.oid, 'TRUNCATE, REFERENCES, TRIGGER') OR pg_catalog.has_any_column_privilege(app.oid, t.oid, 'REFERENCES'))
UNION ALL
SELECT name || ' is unlogged or foreign' FROM tenant WHERE relpersistence <> 'p' OR relkind = 'f'
UNION ALL
SELECT name || '.tenant_id is not bigint NOT NULL' FROM tenant WHERE NOT attnotnull OR atttypid <> 'bigint'::regtype
UNION ALL
SELECT name || ' has no primary key that begins with tenant_id' FROM tenant t
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indkey[0] = t.attnum)
UNION ALL
SELECT name || ' has the unique index ' || i.indexrelid::regclass || ' without tenant_id'
  FROM tenant t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion)
 WHERE NOT t.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]) -- behind: INCLUDE
UNION ALL
SELECT name || ' has the foreign key ' || k.conname || ' that does not pair tenant_id with tenant_id'
  FROM tenant t JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
 WHERE NOT EXISTS (
       SELECT FROM unnest(k.conkey, k.confkey) AS pair (here, there)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = pair.there AND a.attname = 'tenant_id'
        WHERE pair.here = t.attnum)
UNION ALL
SELECT name || ' does not force row security' FROM tenant WHERE NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT name || ' has no policy cell_tenant, or another one of that name' FROM tenant t
 WHERE NOT EXISTS (
       SELECT FROM pg_catalog.pg_policy p
        WHERE p.polrelid = t.oid AND p.polname = 'cell_tenant' AND p.polcmd = '*' AND p.polroles = '{0}'
          AND pg_catalog.pg_get_expr(p.polqual, t.oid) = $$(tenant_id = (NULLIF(current_setting('cell.tenant'::text, true), ''::text))::bigint)$$
          AND pg_catalog.pg_get_expr(p.polwithcheck, t.oid) = pg_catalog.pg_get_expr(p.polqual, t.oid))
UNION ALL
SELECT name || ' has the policy ' || p.polname || ' that lets the application see more'
  FROM app, tenant t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid AND p.polpermissive AND p.polname <> 'cell_tenant'
 WHERE EXISTS (SELECT FROM unnest(p.polroles) AS u (role) WHERE u.role = 0 OR pg_catalog.pg_has_role(app.oid, u.role, 'MEMBER'))
   AND NOT app.rolsuper
UNION ALL
SELECT name || ' lacks a guard trigger that is always enabled' FROM tenant t
 WHERE 4 <> (SELECT count(*) FROM pg_catalog.pg_trigger g
              WHERE g.tgrelid = t.oid AND g.tgfoid = 'cell.guard'::regproc AND g.tgenabled = 'A'
                AND (pg_catalog.pg_get_triggerdef(g.oid) LIKE '%BEFORE TRUNCATE%'
                     OR pg_catalog.pg_get_triggerdef(g.oid) LIKE '%WHEN (%current_setting(''cell.tenant''::text, true) IS DISTINCT FROM%'))
UNION ALL
SELECT name || ' lacks a capture trigger that is always enabled' FROM tenant t
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g
                    WHERE g.tgrelid = t.oid AND g.tgname = 'zz_cell_capture' AND g.tgenabled = 'A')
UNION ALL
-- Ways around them.
SELECT name || ' is open to the application and has no tenant_id'
  FROM app, relation r
 WHERE NOT app.rolsuper AND r.relkind IN ('r', 'p', 'f') AND r.name NOT IN ('cell.incarnation')
   AND NOT EXISTS (SELECT FROM tenant t WHERE t.oid = r.oid)
   AND (pg_catalog.has_table_privilege(app.oid, r.oid, 'SELECT, INSERT, UPDATE, DELETE') OR pg_catalog.has_any_column_privilege(app.oid, r.oid, 'SELECT, INSERT, UPDATE'))
UNION ALL
SELECT name || ' is a view that does not read with the rights of who asks'
  FROM app, relation r
 WHERE NOT app.rolsuper AND r.relkind IN ('v', 'm')
   AND (pg_catalog.has_table_privilege(app.oid, r.oid, 'SELECT, INSERT, UPDATE, DELETE') OR pg_catalog.has_any_column_privilege(app.oid, r.oid, 'SELECT, INSERT, UPDATE'))
   AND (r.relkind = 'm' OR NOT coalesce('security_invoker=true' = ANY (r.reloptions), false))
UNION ALL
SELECT p.oid::regprocedure || ' runs with its owner''s rights'
  FROM app, pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE NOT app.rolsuper AND p.prosecdef AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
   AND (n.nspname <> 'cell' OR pg_catalog.pg_get_userbyid(p.proowner) NOT IN ('cell_fence', 'cell_scan')) -- the gate itself
   AND (pg_catalog.has_function_privilege(app.oid, p.oid, 'EXECUTE')
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgfoid = p.oid)) -- nobody asks whether who writes may call it
