package cell_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

func TestKeysAreSweptAfterTheirTime(t *testing.T) {
	t.Parallel()
	h := start(t)
	for i := range 3 {
		h.want(201, keyed(fmt.Sprint("k", i), `{"name":"Moon"}`))
	}
	err := h.store.InTenant(t.Context(), acme, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE api.idempotency SET created_at = now() - interval '25 hours' WHERE tenant_id = $1 AND key <> 'k2'`, acme)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := cell.SweepOnce(t.Context(), h.store)
	if err != nil || n != 2 {
		t.Errorf("swept: got %d, %v, want 2", n, err)
	}
	for key, replayed := range map[string]string{"k0": "", "k2": "true"} {
		if got := h.want(201, keyed(key, `{"name":"Moon"}`)).header.Get("Idempotency-Replayed"); got != replayed {
			t.Errorf("%s: Idempotency-Replayed is %q, want %q", key, got, replayed)
		}
	}
}

// TestASweepLooksOncePerTenant and not once per so many rows: each look costs what is there.
func TestASweepLooksOncePerTenant(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, tenant := range []directory.TenantID{acme, bravo, 103} {
		h.createProject(tenant, "Moon") // which admits the tenant
		err := h.store.InTenant(t.Context(), tenant, 1, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body, created_at)
				SELECT $1, n, sha256(''), 201, '{}', '', now() - interval '25 hours' FROM generate_series(1, 2500) AS n`, tenant)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fence.Freeze(t.Context(), h.store.DB(), 103, 1, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	for round, want := range []int64{5000, 0} {
		if n, err := cell.SweepRound(t.Context(), h.store); err != nil || n != want {
			t.Errorf("round %d: swept %d, %v, want %d", round, n, err, want)
		}
	}
}
