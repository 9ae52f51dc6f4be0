package transfer

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// manyPlans makes the statements of a round of many keys use hashes. A tenant that has
// just come, or a bulk change, is a handful of rows to the statistics, with which sorts
// look cheap. They are planned each time: what they find differs from round to round.
const manyPlans = `
	SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true), set_config('enable_sort', 'off', true),
	       set_config('enable_mergejoin', 'off', true), set_config('work_mem', '32MB', true), set_config('max_parallel_workers_per_gather', '0', true)`

// loops says whether keys and rows may be brought together by a nested loop: what looks
// rows up is one, and nothing else should be.
const loops = `SELECT set_config('enable_nestloop', $1, true)`

// bySets makes the statements of a transaction that compare all that a tenant has with another set read each once, by a hash: to
// statistics that do not know the tenant it is one row, and a nested loop, which reads the other set for each, looks cheapest.
func bySets(ctx context.Context, tx pgx.Tx) error {
	var b pgx.Batch
	b.Queue(manyPlans)
	b.Queue(loops, "off")
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("prepare to compare sets: %w", err)
	}
	return nil
}

// lookUpsPerPage is how many look-ups of a row by its key cost as much as reading a
// page of its table and trying each row against all the keys (measured: about two).
const lookUpsPerPage = 2

// pages is the size of a table, with all its partitions.
const pages = `
	SELECT (pg_relation_size($1::regclass) + coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree($1::regclass)), 0)) / current_setting('block_size')::int`

// foundBy chooses, for statements after manyPlans, how the rows of many keys are found:
// each looked up, or all that the tenant has read and tried against the keys, where the
// keys are so many that this is sure to be cheaper. It goes by sizes, not by statistics,
// which may know nothing yet.
func (t Table) foundBy(ctx context.Context, tx pgx.Tx, keys int64) (way, error) {
	var size int64
	if err := tx.QueryRow(ctx, pages, t.Name).Scan(&size); err != nil {
		return nil, fmt.Errorf("read the size of %s: %w", t.Label, err)
	}
	found, loop := t.lookedUp, "on"
	if keys > lookUpsPerPage*size {
		found, loop = t.scanned, "off"
	}
	if _, err := tx.Exec(ctx, loops, loop); err != nil {
		return nil, fmt.Errorf("prepare for many keys: %w", err)
	}
	return found, nil
}

// A way makes, of a set of keys, the FROM item of the rows t of a tenant that have one.
type way func(set, tenant string) string

// scanned is the way that reads all that the tenant has.
func (t Table) scanned(set, tenant string) string {
	keys, on := t.distinct(set)
	return fmt.Sprintf("%s JOIN %s t ON t.tenant_id = %s%s", keys, t.Name, tenant, on)
}

// deleteMany deletes the rows of a part's many keys, and tells how they were found and
// how many they were.
func deleteMany(ctx context.Context, tx pgx.Tx, p part, tenant directory.TenantID) (found way, deleted int64, err error) {
	if _, err := tx.Exec(ctx, manyPlans); err != nil {
		return nil, 0, fmt.Errorf("prepare for many keys: %w", err)
	}
	found, err = p.table.foundBy(ctx, tx, p.keysIn())
	if err != nil {
		return nil, 0, err
	}
	tag, err := tx.Exec(ctx, p.table.deleteFrom(found(keyLists, "$1")), tenant, p.keys)
	if err != nil {
		return nil, 0, fmt.Errorf("delete changed keys: %w", err)
	}
	return found, tag.RowsAffected(), nil
}

// keysIn estimates how many keys a part holds.
func (p part) keysIn() (n int64) {
	for _, k := range p.keys {
		n += int64(strings.Count(k, "],[")) + 1
	}
	return n
}
