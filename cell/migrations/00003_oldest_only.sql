-- +goose Up
-- Apart from 00002: it needs another lock, and a migration that does not get one begins anew.
DROP INDEX api.idempotency_created_at;
