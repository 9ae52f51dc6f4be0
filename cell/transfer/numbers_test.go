package transfer_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/testkit"
)

// A listener notes the statements that raise a sequence.
type listener struct {
	mu   sync.Mutex
	said []pgx.TraceQueryStartData
}

func (l *listener) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(q.SQL, "setval") {
		l.said = append(l.said, q)
	}
	return ctx
}

func (*listener) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestARoundLooksAtItsOwnNumbersOnly: no index knows the greatest number of a tenant in a column beside the key. A round of
// one key, which may be the last one, must not read all that the tenant has for it; of many keys, no more than those.
func TestARoundLooksAtItsOwnNumbersOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const rows = 20_000
	ddl := oneTable + `k integer NOT NULL, v text, n bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (tenant_id, k)); GRANT USAGE ON ALL SEQUENCES IN SCHEMA app TO cell_app;`
	a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k, v) SELECT 7, n, pg_catalog.repeat('x', 200) FROM pg_catalog.generate_series(1, $1::integer) n`, rows))
	cfg, heard := b.mover.Config(), &listener{}
	cfg.MaxConns, cfg.ConnConfig.Tracer = 2, heard
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	must(t, err)
	t.Cleanup(pool.Close)
	b.target = transfer.NewTarget(pool, nil)
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	_, err = round(t, a, b, there, false)
	must(t, err)
	_, err = b.owner.Exec(ctx, `ANALYZE app.one`)
	must(t, err)
	for _, keys := range []int{1, 500} {
		heard.said = nil
		must(t, a.do(t, mover, 1, `UPDATE app.one SET n = DEFAULT WHERE k <= $1`, keys))
		_, err = round(t, a, b, there, false)
		must(t, err)
		if len(heard.said) != 1 {
			t.Fatalf("%d keys: %d statements raise a sequence", keys, len(heard.said))
		}
		var last, greatest int64
		must(t, b.owner.QueryRow(ctx, `SELECT (SELECT last_value FROM app.one_n_seq), max(n) FROM app.one`).Scan(&last, &greatest))
		if last < greatest {
			t.Errorf("%d keys: the sequence is at %d, and there is %d", keys, last, greatest)
		}
		must(t, pgx.BeginFunc(ctx, b.owner, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, map[bool]string{true: transfer.KeptPlans, false: transfer.ManyPlans}[keys == 1]); err != nil {
				return err
			}
			if n, how := testkit.RowsRead(t, tx, heard.said[0].SQL, heard.said[0].Args...); n < float64(keys) || n > float64(20*keys+100) {
				t.Errorf("%d keys: read %v rows of %d:\n%s", keys, n, rows, how)
			}
			return nil
		}))
	}
}
