-- One hash of everything that source and target must have alike: the columns,
-- constraints, unique indexes and partitions of tenant tables, their own types,
-- and the server's major version and encoding. Names, not numbers: numbers differ
-- between cells.
WITH tenant AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
       AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
), line AS (
    SELECT 'server ' || current_setting('server_version_num')::int / 10000 || ' ' || current_setting('server_encoding') AS text
    UNION ALL
    SELECT concat_ws(' ', 'column', t.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
                     CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                     (SELECT 'COLLATE ' || o.collname FROM pg_collation o WHERE o.oid = a.attcollation AND o.collname <> 'default'))
      FROM tenant t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT concat_ws(' ', 'constraint', t.name, k.conname, pg_get_constraintdef(k.oid)) FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid
    UNION ALL
    SELECT concat_ws(' ', 'index', t.name, pg_get_indexdef(i.indexrelid)) FROM tenant t JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique
    UNION ALL
    SELECT concat_ws(' ', 'partition', t.name, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(t.oid)) FROM tenant t JOIN pg_class c ON c.oid = t.oid WHERE c.relispartition OR c.relkind = 'p'
    UNION ALL
    SELECT concat_ws(' ', 'enum', n.nspname, ty.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder))
      FROM pg_enum e JOIN pg_type ty ON ty.oid = e.enumtypid JOIN pg_namespace n ON n.oid = ty.typnamespace GROUP BY n.nspname, ty.typname
    UNION ALL
    SELECT concat_ws(' ', 'domain', n.nspname, ty.typname, format_type(ty.typbasetype, ty.typtypmod), pg_get_constraintdef(k.oid))
      FROM pg_type ty JOIN pg_namespace n ON n.oid = ty.typnamespace LEFT JOIN pg_constraint k ON k.contypid = ty.oid
     WHERE ty.typtype = 'd' AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
    UNION ALL
    SELECT concat_ws(' ', 'composite', n.nspname, ty.typname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' ORDER BY a.attnum))
      FROM pg_type ty JOIN pg_class c ON c.oid = ty.typrelid JOIN pg_namespace n ON n.oid = ty.typnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
       AND (c.relkind = 'c' OR ty.oid IN ( -- a table's rows as values: what they are made of, in which order
            SELECT CASE WHEN e.typcategory = 'A' THEN e.typelem ELSE e.oid END
              FROM pg_type e WHERE e.oid IN (SELECT atttypid FROM pg_attribute WHERE attnum > 0 UNION SELECT typbasetype FROM pg_type)))
     GROUP BY n.nspname, ty.typname
)
SELECT encode(sha256(convert_to(string_agg(text, E'\n' ORDER BY text COLLATE "C"), 'UTF8')), 'hex') FROM line
