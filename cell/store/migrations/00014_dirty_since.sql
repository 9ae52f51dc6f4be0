-- A round looks at the keys that were noted since the last one, however many were
-- noted before: a way back may be open for a day. What a snapshot does not see has
-- a transaction id of its xmin or above.
-- +goose Up
DROP INDEX cell.dirty_tenant;
CREATE INDEX dirty_since ON cell.dirty (tenant_id, xid);
