package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// TestTenantsTakeTurns: who has much keeps no other waiting, and who left is passed over.
func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	s, _ := open(t, notes{})
	admit(t, s, 1)
	admit(t, s, 2)
	admit(t, s, 3)
	for _, o := range []struct {
		store.Owner
		rows int
	}{{store.Owner{Tenant: 1, Epoch: 1}, 5}, {store.Owner{Tenant: 2, Epoch: 1}, 2}, {store.Owner{Tenant: 3, Epoch: 1}, 1}} {
		if err := s.InTenant(t.Context(), o.Tenant, o.Epoch, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO notes.note (tenant_id, id, text) SELECT $1, n, 'x' FROM generate_series(1, $2) AS n`, o.Tenant, o.rows)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	const remove = `DELETE FROM notes.note WHERE tenant_id = $1 AND id IN (SELECT id FROM notes.note WHERE tenant_id = $1 LIMIT $2)`
	owners := []store.Owner{{Tenant: 1, Epoch: 1}, {Tenant: 3, Epoch: 7}, {Tenant: 2, Epoch: 1}}
	var turns []int
	n, err := s.InTurns(t.Context(), owners, 2, remove, func(i int) []any {
		turns = append(turns, i)
		return []any{owners[i].Tenant, 2}
	})
	if want := []int{0, 2, 0, 2, 0}; err != nil || n != 7 || !slices.Equal(turns, want) {
		t.Errorf("got %d rows, %v, turns %v; want 7, turns %v", n, err, turns, want)
	}
	if got := []int{count(t, s, 1), count(t, s, 2), count(t, s, 3)}; !slices.Equal(got, []int{0, 0, 1}) {
		t.Errorf("left: %v", got)
	}
	if _, err := s.InTurns(t.Context(), owners, 2, `SELECT 1 / 0`, func(int) []any { return nil }); err == nil {
		t.Error("an error is nobody's")
	}
}
