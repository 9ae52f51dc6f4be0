package cell_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
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

// TestATenantWithManyKeysKeepsNobodyWaiting, neither behind its turn nor behind the thousandth
// tenant: a sweep looks once at all of them, and they take turns.
func TestATenantWithManyKeysKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	h := start(t)
	const many, others = 2500, 1001
	exec := func(sql string) {
		if _, err := h.store.DB().Exec(t.Context(), sql); err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	exec(fmt.Sprintf(`SELECT cell.admit(n, 1) FROM generate_series(1, %d) AS n ORDER BY n`, 2+others))
	exec(fmt.Sprintf(`DO $$ BEGIN
		FOR tenant IN 1..%d LOOP
			PERFORM set_config('cell.tenant', tenant::text, true);
			INSERT INTO api.idempotency (tenant_id, key, request_hash, status, headers, body, created_at)
			SELECT tenant, n, sha256(''), 201, '{}', '', now() - interval '25 hours' + n * interval '1 ms'
			  FROM generate_series(1, CASE tenant WHEN 1 THEN %d ELSE 1 END) AS n;
		END LOOP;
	END $$`, 2+others, many))
	if _, err := fence.Freeze(t.Context(), h.store.DB(), 2+others, 1, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}

	type end struct {
		n   int64
		err error
	}
	ends := make(chan end, 1)
	err := h.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		// The first tenant's third turn waits for this transaction.
		if _, err := tx.Exec(ctx, `SELECT FROM api.idempotency WHERE tenant_id = 1 AND key = '2001' FOR UPDATE`); err != nil {
			return err
		}
		go func() {
			n, err := cell.SweepOnce(t.Context(), h.store)
			ends <- end{n, err}
		}()
		eventually(t, "swept of the others", func() bool {
			var left int
			err := h.store.DB().QueryRow(ctx, `SELECT count(*) FROM cell.idempotency_expired('24 hours', NULL)`).Scan(&left)
			return err == nil && left == 1
		})
		return nil
	})
	if got := <-ends; err != nil || got.err != nil || got.n != many+others {
		t.Errorf("swept: got %d, %v, %v, want %d", got.n, got.err, err, many+others)
	}
}
