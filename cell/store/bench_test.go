package store_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/testkit"
)

// BenchmarkInTenant compares a transaction (an insert and a read) of a tenant,
// with fence, row security and guard, with the same one on a bare table. The two
// take turns within one run; ratio is the median of the turns' ratios of
// transactions per second, 1 being free of charge.
func BenchmarkInTenant(b *testing.B) {
	const tenants, clients, turns = 64, 8, 15
	owner := testkit.BenchPostgres(b)
	if err := store.Prepare(b.Context(), owner, appURL(b, owner), notes{}); err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(b.Context(), appURL(b, owner), store.Options{Cell: "c1"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for t := directory.TenantID(1); t <= tenants; t++ {
		admit(b, s, t)
	}
	conn, err := pgx.Connect(b.Context(), owner)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if _, err := conn.Exec(b.Context(), `CREATE TABLE notes.bare (LIKE notes.note INCLUDING ALL); GRANT ALL ON notes.bare TO cell_app`); err != nil {
		b.Fatal(err)
	}

	var next atomic.Int64
	body := func(ctx context.Context, db pg.DB, table string, tenant directory.TenantID) error {
		id := next.Add(1)
		if _, err := db.Exec(ctx, `INSERT INTO notes.`+table+` (tenant_id, id, text) VALUES ($1, $2, 'some text of a note')`, tenant, id); err != nil {
			return err
		}
		var text string
		return db.QueryRow(ctx, `SELECT text FROM notes.`+table+` WHERE tenant_id = $1 AND id = $2`, tenant, id).Scan(&text)
	}
	guarded := func(ctx context.Context, t directory.TenantID) error {
		return s.InTenant(ctx, t, 1, func(ctx context.Context, tx *store.Tx) error { return body(ctx, tx, "note", t) })
	}
	bare := func(ctx context.Context, t directory.TenantID) error {
		return pgx.BeginFunc(ctx, s.DB().(interface {
			Begin(ctx context.Context) (pgx.Tx, error)
		}), func(tx pgx.Tx) error { return body(ctx, tx, "bare", t) })
	}
	run := func(n int, one func(ctx context.Context, t directory.TenantID) error) float64 {
		begin := time.Now()
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				for i := c; i < n; i += clients {
					if err := one(b.Context(), directory.TenantID(1+i%tenants)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return float64(n) / time.Since(begin).Seconds()
	}
	run(200, guarded) // connections, plans
	run(200, bare)
	b.ResetTimer()
	n := max(b.N/turns/2, clients)
	var ratios, with, without []float64
	for i := range turns {
		first, second := bare, guarded
		if i%2 == 1 {
			first, second = guarded, bare
		}
		x, y := run(n, first), run(n, second)
		if i%2 == 1 {
			x, y = y, x
		}
		without, with, ratios = append(without, x), append(with, y), append(ratios, y/x)
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(median(without), "bare-tx/s")
	b.ReportMetric(median(with), "tenant-tx/s")
	b.ReportMetric(median(ratios), "ratio")
}
