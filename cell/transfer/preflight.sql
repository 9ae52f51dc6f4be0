-- What would make a move unsafe, by table: code, table, why, fix. A tenant table
-- is any table with a column tenant_id; those that the move itself keeps are not.
WITH RECURSIVE rel AS (
    SELECT c.*, n.nspname, n.nspname || '.' || c.relname AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
       AND n.nspname || '.' || c.relname NOT IN ('cell.fence', 'cell.dirty', 'cell.received')
), tenant AS (
    SELECT r.*, a.attnum, a.attnotnull, a.atttypid
      FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
     WHERE r.relkind IN ('r', 'p', 'f')
), root AS ( -- partitions are looked at through their parent
    SELECT * FROM tenant WHERE NOT relispartition
), col AS (
    SELECT t.oid AS rel, t.name, a.attname, ty.typname, ty.typtype, ty.oid AS typ, a.attcollation
      FROM root t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type ty ON ty.oid = a.atttypid
), part (name, attname, typ) AS ( -- a column's type and those that it is made of
    SELECT name, attname, typ FROM col
    UNION
    SELECT p.name, p.attname, x.typ FROM part p JOIN pg_type ty ON ty.oid = p.typ
     CROSS JOIN LATERAL (SELECT ty.typbasetype WHERE ty.typtype = 'd'
                         UNION ALL SELECT ty.typelem WHERE ty.typcategory = 'A' AND ty.typelem <> 0
                         UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE ty.typtype = 'c' AND a.attrelid = ty.typrelid AND a.attnum > 0 AND NOT a.attisdropped) x (typ)
), holds AS (
    SELECT p.name, p.attname, p.typ, ty.typname FROM part p JOIN pg_type ty ON ty.oid = p.typ
), called (name, fn) AS ( -- functions that are called where a row is stored
    SELECT t.name, d.refobjid
      FROM tenant t
     CROSS JOIN LATERAL (SELECT 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.conrelid = t.oid
                         UNION ALL SELECT 'pg_attrdef'::regclass, g.oid FROM pg_attrdef g JOIN pg_attribute a ON a.attrelid = g.adrelid AND a.attnum = g.adnum AND a.attgenerated <> '' WHERE g.adrelid = t.oid
                         UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i WHERE i.indrelid = t.oid
                         UNION ALL SELECT 'pg_class'::regclass, t.oid) s (class, obj) -- a partition key
      JOIN pg_depend d ON d.classid = s.class AND d.objid = s.obj AND d.refclassid = 'pg_proc'::regclass
    UNION
    SELECT h.name, d.refobjid
      FROM holds h JOIN pg_constraint k ON k.contypid = h.typ
      JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass
), number AS ( -- columns that are filled from a sequence, by their default or because it is their own
    SELECT t.name, a.attname, ty.typcategory, d.oid AS def, pg_get_expr(d.adbin, d.adrelid) AS made,
           pg_get_serial_sequence(t.oid::regclass::text, a.attname)::regclass AS own
      FROM root t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      JOIN pg_type ty ON ty.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
), made (oid) AS ( -- of tenant rows: views, and what is made of those
    SELECT oid FROM tenant
    UNION
    SELECT w.ev_class FROM made m JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = m.oid
      JOIN pg_rewrite w ON w.oid = d.objid
)
SELECT 'no-primary-key', name, 'it has no primary key: a changed row has no name', 'add PRIMARY KEY (tenant_id, ...)'
  FROM root t WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)
UNION ALL
SELECT 'key-without-tenant', name, 'its primary key does not begin with tenant_id: two tenants could own one key', 'make the key (tenant_id, ...)'
  FROM root t WHERE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary AND i.indkey[0] <> t.attnum)
UNION ALL
SELECT 'tenant-id-type', name, 'tenant_id is not bigint', 'ALTER COLUMN tenant_id TYPE bigint' FROM root WHERE atttypid <> 'bigint'::regtype
UNION ALL
SELECT 'tenant-id-null', name, 'tenant_id may be NULL: such rows belong to nobody and stay behind', 'ALTER COLUMN tenant_id SET NOT NULL' FROM root WHERE NOT attnotnull
UNION ALL
SELECT 'unlogged', name, 'it is UNLOGGED: a crash during the move empties it', 'ALTER TABLE ... SET LOGGED' FROM tenant WHERE relpersistence = 'u'
UNION ALL
SELECT 'foreign-table', name, 'its rows are in another server', 'keep tenant rows in the cell' FROM tenant WHERE relkind = 'f'
UNION ALL
SELECT 'inheritance', name, 'it inherits from another table that is not partitioned: its rows would be copied twice', 'use PARTITION BY or NO INHERIT'
  FROM tenant t WHERE EXISTS (SELECT FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = t.oid AND p.relkind = 'r')
UNION ALL
SELECT 'unique-without-tenant', name, 'unique index ' || i.indexrelid::regclass || ' lacks tenant_id: it could clash in the target', 'add tenant_id to the index'
  FROM tenant t JOIN pg_index i ON i.indrelid = t.oid AND i.indisunique AND NOT i.indisprimary
  JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition -- one of a partition alone is looked at, too
 WHERE NOT t.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]) -- behind: INCLUDE
UNION ALL
SELECT 'exclusion-without-tenant', t.name, 'exclusion constraint ' || k.conname || ' lacks tenant_id: it could clash in the target', 'add tenant_id WITH ='
  FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'x' AND k.conparentid = 0 WHERE NOT t.attnum = ANY (k.conkey)
UNION ALL
SELECT 'foreign-key-without-tenant', t.name, 'foreign key ' || k.conname || ' does not pair tenant_id with tenant_id: it may point at another tenant''s row', 'FOREIGN KEY (tenant_id, ...) REFERENCES ... (tenant_id, ...)'
  FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0
  JOIN tenant r ON r.oid = k.confrelid
 WHERE NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS p (here, there) WHERE p.here = t.attnum AND p.there = r.attnum)
UNION ALL
SELECT 'foreign-key-to-shared', name, 'foreign key ' || k.conname || ' points at ' || k.confrelid::regclass || ', which does not move', 'give that table a tenant_id, or keep the reference as a value'
  FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0 WHERE NOT EXISTS (SELECT FROM tenant r WHERE r.oid = k.confrelid)
UNION ALL
SELECT 'foreign-key-from-shared', r.name, 'foreign key ' || k.conname || ' points at the tenant table ' || k.confrelid::regclass || ': its rows would be left dangling', 'give the table a tenant_id, or drop the key'
  FROM pg_constraint k JOIN rel r ON r.oid = k.conrelid WHERE k.contype = 'f' AND EXISTS (SELECT FROM tenant t WHERE t.oid = k.confrelid) AND NOT EXISTS (SELECT FROM tenant t WHERE t.oid = k.conrelid)
UNION ALL
SELECT 'row-security', name, 'row security is not forced: a statement may see other tenants'' rows', 'SELECT cell.protect(...)' FROM tenant WHERE NOT (relrowsecurity AND relforcerowsecurity) AND relkind <> 'f'
UNION ALL
SELECT 'no-guard', name, 'a guard trigger is missing or not enabled always: a rogue writer would not be stopped', 'SELECT cell.protect(...)'
  FROM root t WHERE relkind <> 'f' AND 3 > (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgfoid = 'cell.guard'::regproc AND g.tgenabled = 'A' AND g.tgname <> 'zz_cell_guard_truncate')
UNION ALL
SELECT 'no-guard', name, 'a guard trigger of this partition is missing or not enabled always: a rogue writer would not be stopped', 'ALTER TABLE ... ENABLE ALWAYS TRIGGER zz_cell_guard_insert, and _update and _delete'
  FROM tenant t WHERE relispartition AND relkind <> 'f' AND 3 > (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgfoid = 'cell.guard'::regproc AND g.tgenabled = 'A' AND g.tgname <> 'zz_cell_guard_truncate')
UNION ALL
SELECT 'truncate-allowed', name, 'nothing refuses TRUNCATE, which capture does not see', 'SELECT cell.protect(...)'
  FROM tenant t WHERE relkind <> 'f' AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgname = 'zz_cell_guard_truncate' AND g.tgenabled = 'A')
UNION ALL
SELECT 'no-capture', name, 'the capture trigger is missing, not enabled always, or made for another name or key: changes during the move would be lost', 'SELECT cell.capture(...), as each start of the cell does'
  FROM root t WHERE relkind <> 'f' AND NOT cell.captured(t.oid)
UNION ALL
SELECT 'no-capture', name, 'the capture trigger of this partition is missing or not enabled always: changes during the move would be lost', 'ALTER TABLE ... ENABLE ALWAYS TRIGGER zz_cell_capture'
  FROM tenant t WHERE relispartition AND relkind <> 'f' AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.oid AND g.tgname = 'zz_cell_capture' AND g.tgenabled = 'A')
UNION ALL
SELECT 'always-trigger', name, 'trigger ' || g.tgname || ' is ENABLE ALWAYS or REPLICA: it would run again at the target', 'ALTER TABLE ... ENABLE TRIGGER (origin only)'
  FROM tenant t JOIN pg_trigger g ON g.tgrelid = t.oid AND g.tgenabled IN ('A', 'R') AND g.tgname NOT LIKE 'zz\_cell\_%'
UNION ALL
SELECT 'rule', name, 'rule ' || w.rulename || ' rewrites statements on it', 'use a trigger' FROM tenant t JOIN pg_rewrite w ON w.ev_class = t.oid AND w.rulename <> '_RETURN'
UNION ALL
SELECT 'always-rule', name, 'rule ' || w.rulename || ' is ENABLE ALWAYS or REPLICA', 'drop the rule' FROM tenant t JOIN pg_rewrite w ON w.ev_class = t.oid AND w.ev_enabled IN ('A', 'R')
UNION ALL
SELECT 'large-object', name, 'column ' || attname || ' holds an oid: large objects do not move', 'use bytea' FROM holds WHERE typname IN ('oid', 'lo')
UNION ALL
SELECT 'catalog-reference', name, 'column ' || attname || ' of type ' || typname || ' holds numbers of this cell''s own catalog', 'use text' FROM holds WHERE (typname LIKE 'reg%' OR typname = 'aclitem') AND typ < 16384
UNION ALL
SELECT 'physical-reference', name, 'column ' || attname || ' of type ' || typname || ' means something in this database only', 'use bigint or uuid'
  FROM holds WHERE typname IN ('tid', 'xid', 'xid8', 'cid', 'pg_lsn', 'pg_snapshot', 'txid_snapshot')
UNION ALL
SELECT 'money', name, 'column ' || attname || ' holds money: its text depends on a setting', 'use numeric' FROM holds WHERE typname = 'money'
UNION ALL
SELECT 'collation', name, 'column ' || attname || ' has a nondeterministic collation: unequal values would hash alike', 'use a deterministic collation'
  FROM col JOIN pg_collation c ON c.oid = attcollation WHERE NOT c.collisdeterministic
UNION ALL
SELECT 'collation-version', t.name, 'collation ' || c.collname || ' of its key has another version than when the key''s index was made: rows may not be found by it, and would be lost', 'REINDEX, then ALTER DATABASE ... REFRESH COLLATION VERSION, or ALTER COLLATION'
  FROM root t JOIN pg_index i ON i.indrelid = t.oid AND i.indisprimary
  JOIN pg_collation c ON c.oid = ANY (i.indcollation::oid[])
 CROSS JOIN LATERAL (SELECT d.datcollversion, pg_database_collation_actual_version(d.oid) FROM pg_database d WHERE d.datname = current_database() AND c.collprovider = 'd'
                     UNION ALL SELECT c.collversion, pg_collation_actual_version(c.oid) WHERE c.collprovider <> 'd') v (was, now)
 WHERE v.was IS DISTINCT FROM v.now AND v.was IS NOT NULL
UNION ALL
SELECT 'shared-sequence', name, 'column ' || attname || ' takes its default from a sequence that is not the table''s own, or not the one that is: nobody raises it at the target', 'ALTER SEQUENCE ... OWNED BY the column, and of another one OWNED BY NONE, or use an identity column'
  FROM number WHERE made LIKE '%nextval(%'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = def AND d.refclassid = 'pg_class'::regclass AND d.refobjid = own)
UNION ALL
SELECT 'shared-sequence', h.name, 'column ' || h.attname || ' takes its default from a sequence, by its type: nobody raises it at the target', 'ALTER DOMAIN ... DROP DEFAULT, and an identity column'
  FROM holds h JOIN pg_type y ON y.oid = h.typ AND y.typdefault LIKE '%nextval(%'
UNION ALL
SELECT 'computed-number', name, 'column ' || attname || ' holds something else than the number of its sequence: nobody can tell at the target which come next', 'give the sequence a column of its own, of type bigint'
  FROM number WHERE own IS NOT NULL AND typcategory <> 'N' OR made LIKE '%nextval(%' AND made !~ '^\(?nextval\(''[^()]+''::regclass\)\)?(::(smallint|integer|bigint|numeric))?$'
UNION ALL
SELECT 'cached-sequence', name, 'sequence ' || s.seqrelid::regclass || ' has CACHE ' || s.seqcache || ': numbers that a session keeps are given at the target although the tenant has them', 'ALTER SEQUENCE ... CACHE 1, and restart the cell'
  FROM root t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype IN ('a', 'i')
  JOIN pg_sequence s ON s.seqrelid = d.objid WHERE s.seqcache > 1
UNION ALL
SELECT 'descending-sequence', name, 'sequence ' || s.seqrelid::regclass || ' counts down: nobody takes it below the tenant''s numbers at the target', 'ALTER SEQUENCE ... INCREMENT 1, above the numbers in use'
  FROM root t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype IN ('a', 'i')
  JOIN pg_sequence s ON s.seqrelid = d.objid WHERE s.seqincrement < 1
UNION ALL
SELECT 'materialized-view', r.name, 'it is made from tenant rows and does not move', 'drop it, or make it a table that events keep up to date'
  FROM rel r WHERE r.relkind = 'm' AND r.oid IN (SELECT oid FROM made)
UNION ALL
SELECT 'no-execute', c.name, 'function ' || c.fn::regprocedure || ', which a constraint, an index or a generated column calls, is not open to the role that stores rows', 'GRANT EXECUTE ON FUNCTION ... TO cell_move'
  FROM called c WHERE NOT has_function_privilege('cell_move', c.fn, 'EXECUTE')
UNION ALL
SELECT 'subscription', name, 'a logical replication subscription writes into it', 'drop the subscription' FROM tenant t WHERE EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = t.oid)
UNION ALL
SELECT 'invalid-index', name, 'index ' || i.indexrelid::regclass || ' is invalid: what it should forbid is not known', 'REINDEX or drop it' FROM tenant t JOIN pg_index i ON i.indrelid = t.oid AND NOT i.indisvalid AND t.relkind <> 'p'
UNION ALL
SELECT 'not-validated', name, 'constraint ' || k.conname || ' is NOT VALID: the target may refuse a row that is here', 'ALTER TABLE ... VALIDATE CONSTRAINT' FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid AND NOT k.convalidated
UNION ALL
SELECT 'not-validated', name, 'constraint ' || k.conname || ' of the type of column ' || attname || ' is NOT VALID: the target may refuse a row that is here', 'ALTER DOMAIN ... VALIDATE CONSTRAINT'
  FROM holds JOIN pg_constraint k ON k.contypid = typ AND NOT k.convalidated
ORDER BY 1, 2
