package jobs

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

// TestMain runs the tests, or, where a test started this binary again, a runner
// until it is killed.
func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		child()
		return
	}
	testkit.Main(m)
}

// A world is a cell's database, and a table of the effects that jobs had.
type world struct {
	store *store.Store
	owner *pgx.Conn
	url   string
}

const effects = `
	CREATE SCHEMA fx;
	GRANT USAGE ON SCHEMA fx TO cell_app;
	CREATE TABLE fx.log (tenant_id bigint NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL, attempt integer NOT NULL,
	    PRIMARY KEY (tenant_id, n));
	SELECT cell.protect('fx.log')`

func open(tb testing.TB) *world {
	tb.Helper()
	owner := storetest.Postgres(tb)
	conn, err := pgx.Connect(tb.Context(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{owner: conn, url: testkit.SetUser(tb, owner, "app"+conn.Config().Database, "secret")}
	if err := store.Prepare(tb.Context(), owner, w.url); err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Exec(tb.Context(), effects); err != nil {
		tb.Fatal(err)
	}
	if w.store, err = store.Open(tb.Context(), w.url, store.Options{Cell: "c1"}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		w.store.Close()
		conn.Close(context.WithoutCancel(tb.Context()))
	})
	return w
}

// effect is what the tests' jobs do: a row with the payload and the attempt.
func effect(ctx context.Context, tx *store.Tx, j Job) error {
	_, err := tx.Exec(ctx, `INSERT INTO fx.log (tenant_id, what, attempt) VALUES ($1, $2::json #>> '{}', $3)`, tx.Tenant, string(j.Payload), j.Attempt)
	return err
}

const kind = "test.note"

var noting = Kind{Name: kind, Handle: effect}

// quick makes tests quick; what they test is not how long things take.
func quick() Options {
	return Options{
		Poll: 50 * time.Millisecond, Backoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

func (w *world) runner(tb testing.TB, o Options, kinds ...Kind) *Runner {
	tb.Helper()
	r, err := NewRunner(w.store, kinds, o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var start = testkit.Start

func (w *world) admit(tb testing.TB, tenants ...directory.TenantID) {
	tb.Helper()
	for _, t := range tenants {
		if _, err := fence.Admit(tb.Context(), w.store.DB(), t, 1); err != nil {
			tb.Fatal(err)
		}
	}
}

// in runs fn as the tenant at an epoch.
func (w *world) in(tb testing.TB, t directory.TenantID, e directory.Epoch, fn func(ctx context.Context, tx *store.Tx) error) {
	tb.Helper()
	if err := w.store.InTenant(tb.Context(), t, e, fn); err != nil {
		tb.Fatal(err)
	}
}

func (w *world) enqueue(tb testing.TB, t directory.TenantID, n New) (id string) {
	tb.Helper()
	w.in(tb, t, 1, func(ctx context.Context, tx *store.Tx) (err error) {
		id, err = Enqueue(ctx, tx, n)
		return err
	})
	return id
}

// strings reads one column of text as the owner, who sees all tenants.
func (w *world) strings(tb testing.TB, sql string, args ...any) []string {
	tb.Helper()
	rows, err := w.owner.Query(tb.Context(), sql, args...)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// effects are the tenant's, in order.
func (w *world) effects(tb testing.TB, t directory.TenantID) []string {
	tb.Helper()
	return w.strings(tb, `SELECT what FROM fx.log WHERE tenant_id = $1 ORDER BY n`, t)
}

// states are those of the tenant's jobs.
func (w *world) states(tb testing.TB, t directory.TenantID) []string {
	tb.Helper()
	return w.strings(tb, `SELECT state FROM cell.job WHERE tenant_id = $1 ORDER BY state`, t)
}

// eventually polls with a deadline.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s did not happen", what)
		}
	}
}

// claimOfBefore makes a job of so many attempts whose claim is of the epoch before the tenant moved.
func (w *world) claimOfBefore(t *testing.T, attempts int) {
	t.Helper()
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a", Attempts: attempts})
	first := w.runner(t, quick(), noting)
	j, err := first.claim(t.Context(), 1, 1)
	if err != nil || j == nil {
		t.Fatalf("claim: %v, %v", j, err)
	}
	w.standStill(t, 1, 1, 2)
	if _, err := w.store.DB().Exec(t.Context(), `SELECT cell.activate(1, 2, 2, 'test', 1000)`); err != nil {
		t.Fatal(err)
	}
	first.settle(t.Context(), 1, 1, *j, first.do(t.Context(), 1, 1, *j)) // the fence refuses
}
