package store_test

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// TestJobsAndEventsAreATenants: of the cell's own tables, too, no row can be written
// without a tenant, nor one of another tenant's.
func TestJobsAndEventsAreATenants(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1, 2)
	for name, sql := range map[string]string{
		"job":         `INSERT INTO cell.job (tenant_id, id, kind, payload, max_attempts, due_at, run_at) VALUES ($1, gen_random_uuid(), 'k', '{}', 1, now(), now())`,
		"schedule":    `INSERT INTO cell.schedule (tenant_id, name, kind, payload, every, next_run) VALUES ($1, 's', 'k', '{}', '1 day', now())`,
		"counter":     `INSERT INTO cell.outbox_counter (tenant_id, last) VALUES ($1, 1)`,
		"cursor":      `INSERT INTO cell.outbox_cursor (tenant_id, published) VALUES ($1, 0)`,
		"event":       `INSERT INTO cell.outbox (tenant_id, seq, id, cell, epoch, type, subject, data) VALUES ($1, 1, gen_random_uuid(), 'c1', 1, 'a', 'b', '{}')`,
		"inbox":       `INSERT INTO cell.inbox (tenant_id, consumer, last_seq) VALUES ($1, 'c', 0)`,
		"dead letter": `INSERT INTO cell.dead_letter (tenant_id, consumer, seq, event_id, type, event, error, attempts) VALUES ($1, 'c', 1, gen_random_uuid(), 'a', '{}', '', 1)`,
	} {
		in := func(tenant any) error {
			return s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.Exec(ctx, sql, tenant)
				return err
			})
		}
		if err := in(1); err != nil {
			t.Errorf("%s: its own: %v", name, err)
		}
		for whose, tenant := range map[string]any{"another's": 2, "nobody's": nil} {
			if in(tenant) == nil {
				t.Errorf("%s: %s was written", name, whose)
			}
		}
		if _, err := s.DB().Exec(t.Context(), sql, 2); err == nil {
			t.Errorf("%s: written outside a transaction of its tenant's", name)
		}
	}
}
