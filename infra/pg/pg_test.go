package pg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := Open(t.Context(), url, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func count(t *testing.T, db DB, sql string) int {
	t.Helper()
	var n int
	if err := db.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOpen(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	if got := open(t, url).Config().MaxConns; got != 4 {
		t.Errorf("got a pool of %d, want 4", got)
	}
	for name, bad := range map[string]string{
		"a wrong password":     testkit.SetUser(t, url, "postgres", "hunter2"),
		"no URL":               "postgres://postgres:hunter2@127.0.0.1:port/db",
		"a server that is not": "postgres://postgres:hunter2@127.0.0.1:1/db",
	} {
		pool, err := Open(t.Context(), bad, 0)
		if err == nil {
			pool.Close()
			t.Errorf("%s: it opened", name)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the password is in the error: %v", name, err)
		}
	}
}

// TestTheServerAsksWhetherTheClientIsThere: a session whose machine is gone keeps its locks
// until the server notices, which is after two hours where nobody says otherwise.
func TestTheServerAsksWhetherTheClientIsThere(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	for name, tt := range map[string]struct{ more, want, sent string }{
		"as it is":          {"", "10 5 3 20000", "[]"},
		"as the URL has it": {"&tcp_keepalives_idle=60&tcp_user_timeout=0", "60 5 3 0", "[tcp_keepalives_idle tcp_user_timeout]"},
	} {
		cfg := open(t, url+tt.more).Config().ConnConfig
		if sent := slices.Sorted(maps.Keys(cfg.RuntimeParams)); fmt.Sprint(sent) != tt.sent {
			t.Errorf("%s: %v go with the connection's first message, in which PgBouncer refuses what it does not know; want %v", name, sent, tt.sent)
		}
		own, err := pgx.ConnectConfig(t.Context(), cfg) // as sessions beside the pool are made
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = own.QueryRow(t.Context(), `SELECT concat_ws(' ', current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),
			current_setting('tcp_keepalives_count'), current_setting('tcp_user_timeout'))`).Scan(&got)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tt.want)
		}
		if err := own.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestInTxAfter: what is known goes with BEGIN; fn's error, one of a first statement and
// the caller's end undo all, and the connection lives on; fn may commit by itself.
func TestInTxAfter(t *testing.T) {
	t.Parallel()
	pool := open(t, testkit.Postgres(t))
	if _, err := pool.Exec(t.Context(), "CREATE TABLE items (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	first := func(id int) func(*pgx.Batch) {
		return func(b *pgx.Batch) { b.Queue("INSERT INTO items (id) VALUES ($1)", id) }
	}
	insert := func(ctx context.Context, tx pgx.Tx, id int) error {
		_, err := tx.Exec(ctx, "INSERT INTO items (id) VALUES ($1)", id)
		return err
	}
	broken := errors.New("broken")
	ending, end := context.WithCancel(t.Context())
	for _, tt := range []struct {
		what string
		ctx  context.Context
		id   int
		fn   func(ctx context.Context, tx pgx.Tx) error
		ok   bool
	}{
		{"a commit", t.Context(), 1, func(ctx context.Context, tx pgx.Tx) error { return insert(ctx, tx, 2) }, true},
		{"fn's own commit", t.Context(), 3, func(ctx context.Context, tx pgx.Tx) error {
			var b pgx.Batch
			first(4)(&b)
			QueueCommit(&b)
			return tx.SendBatch(ctx, &b).Close()
		}, true},
		{"fn fails", t.Context(), 5, func(ctx context.Context, tx pgx.Tx) error { return errors.Join(insert(ctx, tx, 6), broken) }, false},
		{"a first statement fails", t.Context(), 1, func(context.Context, pgx.Tx) error { t.Error("fn runs"); return nil }, false},
		{"the caller goes away", ending, 7, func(ctx context.Context, tx pgx.Tx) error { end(); return insert(ctx, tx, 8) }, false},
	} {
		err := InTxAfter(tt.ctx, pool, pgx.TxOptions{}, first(tt.id), func(tx pgx.Tx) error { return tt.fn(tt.ctx, tx) })
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want success: %v", tt.what, err, tt.ok)
		}
	}
	if got := count(t, pool, "SELECT count(*) FROM items WHERE id <= 4"); got != 4 {
		t.Errorf("got %d rows of what was committed, want 4", got)
	}
	if got := count(t, pool, "SELECT count(*) FROM items"); got != 4 {
		t.Errorf("got %d rows, want none of what failed", got)
	}
	if n := pool.Stat().NewConnsCount(); n != 1 {
		t.Errorf("%d connections were made, want the first to live on", n)
	}
}

func TestInTx(t *testing.T) {
	t.Parallel()
	pool := open(t, testkit.Postgres(t))
	if _, err := pool.Exec(t.Context(), "CREATE TABLE items (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	insert := func(tx pgx.Tx, id int) error {
		_, err := tx.Exec(t.Context(), "INSERT INTO items (id) VALUES ($1)", id)
		return err
	}
	if err := InTx(t.Context(), pool, func(tx pgx.Tx) error { return insert(tx, 1) }); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := InTx(t.Context(), pool, func(tx pgx.Tx) error { return errors.Join(insert(tx, 2), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the function's error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = InTx(t.Context(), pool, func(tx pgx.Tx) error { panic(insert(tx, 3)) })
	}()
	err := InTx(t.Context(), pool, func(tx pgx.Tx) error { return insert(tx, 1) })
	if Code(err) != UniqueViolation {
		t.Errorf("got code %q of %v, want %s", Code(err), err, UniqueViolation)
	}
	if got := count(t, pool, "SELECT count(*) FROM items"); got != 1 {
		t.Errorf("got %d rows, want the one that was committed", got)
	}
}

func TestCodeOfOtherErrors(t *testing.T) {
	t.Parallel()
	if got := Code(errors.New("x")) + Code(nil); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
