-- One text that is another one after whatever alters the schema, and after a crash, which
-- may have lost what was altered and gives its numbers again (every recovery ends with a
-- checkpoint): of each row of the catalog that is not the server's own, which transaction
-- wrote it and where it is. The numbers below 16384 are the server's own objects'.
SELECT concat_ws(' ', pg_postmaster_start_time(), (SELECT checkpoint_lsn FROM pg_control_checkpoint()), count(*), bit_xor(hashtextextended(concat_ws(' ', c, a, b, x, t), 0)))
  FROM (
    SELECT 1 AS c, oid AS a, 0 AS b, xmin AS x, ctid AS t FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT 2, attrelid, attnum, xmin, ctid FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT 3, oid, 0, xmin, ctid FROM pg_attrdef
    UNION ALL SELECT 4, oid, 0, xmin, ctid FROM pg_type WHERE oid >= 16384
    UNION ALL SELECT 5, oid, 0, xmin, ctid FROM pg_enum
    UNION ALL SELECT 6, oid, 0, xmin, ctid FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT 7, indexrelid, 0, xmin, ctid FROM pg_index WHERE indexrelid >= 16384
    UNION ALL SELECT 8, inhrelid, inhseqno, xmin, ctid FROM pg_inherits
    UNION ALL SELECT 9, partrelid, 0, xmin, ctid FROM pg_partitioned_table
    UNION ALL SELECT 10, oid, 0, xmin, ctid FROM pg_trigger
    UNION ALL SELECT 11, oid, 0, xmin, ctid FROM pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT 12, oid, 0, xmin, ctid FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 13, oid, 0, xmin, ctid FROM pg_collation WHERE oid >= 16384
    UNION ALL SELECT 14, oid, 0, xmin, ctid FROM pg_opclass WHERE oid >= 16384
    UNION ALL SELECT 15, oid, 0, xmin, ctid FROM pg_namespace
    UNION ALL SELECT 16, objid, objsubid, xmin, ctid FROM pg_depend WHERE objid >= 16384
    UNION ALL SELECT 17, srsubid, srrelid::bigint, xmin, ctid FROM pg_subscription_rel
    UNION ALL SELECT 18, seqrelid, 0, xmin, ctid FROM pg_sequence
    UNION ALL SELECT 19, oid, 0, xmin, ctid FROM pg_database WHERE datname = current_database()
  ) AS row
