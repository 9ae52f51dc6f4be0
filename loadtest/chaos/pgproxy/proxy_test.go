package pgproxy_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/testkit"
	"github.com/cellway/cellway/loadtest/chaos/pgproxy"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A bench is a database with a table of one column, and the proxy before it.
type bench struct {
	*pgproxy.Proxy
	direct *pgx.Conn
	url    string // by way of the proxy
}

func newBench(t *testing.T) *bench {
	t.Helper()
	raw := testkit.Postgres(t)
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pgproxy.Listen(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{Proxy: p, direct: connect(t, raw)}
	if b.url, err = p.URL(raw); err != nil {
		t.Fatal(err)
	}
	if _, err := b.direct.Exec(t.Context(), `CREATE TABLE public.t (n int)`); err != nil {
		t.Fatal(err)
	}
	return b
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) }) // a fault may have ended it
	return c
}

// want holds how many rows the table has, once the server is done with the
// connection that was broken.
func (b *bench) want(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const others = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`
	for busy := 1; busy > 0; {
		if err := b.direct.QueryRow(ctx, others).Scan(&busy); err != nil {
			t.Fatal(err)
		}
	}
	var got int
	if err := b.direct.QueryRow(ctx, `SELECT count(*) FROM public.t`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != n {
		t.Errorf("rows: got %d, want %d", got, n)
	}
}

func hit(t *testing.T, fired <-chan struct{}, want bool) {
	t.Helper()
	select {
	case <-fired:
		if !want {
			t.Error("the fault struck too early")
		}
	default:
		if want {
			t.Error("the fault did not strike")
		}
	}
}

// TestStatementIsBroken: each kind does to a statement, simple or extended, what
// its name says, to the one that was meant only.
func TestStatementIsBroken(t *testing.T) {
	t.Parallel()
	for kind, executed := range map[pgproxy.Kind]int{pgproxy.Before: 0, pgproxy.Cut: 0, pgproxy.Answer: 1} {
		for name, mode := range map[string]pgx.QueryExecMode{"simple": pgx.QueryExecModeSimpleProtocol, "extended": pgx.QueryExecModeExec} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				c := connect(t, b.url)
				fired := b.Arm(pgproxy.Fault{Kind: kind, Nth: 2})
				if _, err := c.Exec(t.Context(), `INSERT INTO public.t VALUES ($1)`, mode, 1); err != nil {
					t.Fatalf("the statement before: %v", err)
				}
				hit(t, fired, false)
				if _, err := c.Exec(t.Context(), `INSERT INTO public.t VALUES ($1)`, mode, 2); err == nil {
					t.Error("the client was told that the statement was done")
				}
				hit(t, fired, true)
				b.want(t, 1+executed)
				if _, err := connect(t, b.url).Exec(t.Context(), `INSERT INTO public.t VALUES (3)`); err != nil {
					t.Errorf("another connection afterwards: %v", err)
				}
			})
		}
	}
}

// TestAnswerOfACommitIsLost: a transaction is committed and its client does not
// learn of it, although its own statements went well.
func TestAnswerOfACommitIsLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := connect(t, b.url)
	fired := b.Arm(pgproxy.Fault{Kind: pgproxy.Answer, Commits: true})
	err := pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO public.t VALUES (1)`)
		return err
	})
	if err == nil {
		t.Error("the client was told of the commit")
	}
	hit(t, fired, true)
	b.want(t, 1)
}

// TestCopyIsBroken: the end of a COPY counts as a statement.
func TestCopyIsBroken(t *testing.T) {
	t.Parallel()
	for kind, rows := range map[pgproxy.Kind]int{pgproxy.Before: 0, pgproxy.Answer: 3} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c := connect(t, b.url)
			b.Arm(pgproxy.Fault{Kind: kind, Nth: 3}) // the description of the table and COPY itself come first
			_, err := c.CopyFrom(t.Context(), pgx.Identifier{"public", "t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}, {3}}))
			if err == nil {
				t.Error("the client was told that the copy was done")
			}
			b.want(t, rows)
		})
	}
}

// TestStallAndDisarm: a stalled statement waits and is done; a fault that was
// taken back never strikes.
func TestStallAndDisarm(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := connect(t, b.url)
	const stall = 50 * time.Millisecond
	b.Arm(pgproxy.Fault{Kind: pgproxy.Stall, Stall: stall})
	began := time.Now()
	if _, err := c.Exec(t.Context(), `INSERT INTO public.t VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < stall {
		t.Errorf("the statement took %v, want at least %v", took, stall)
	}
	fired := b.Arm(pgproxy.Fault{Kind: pgproxy.Before})
	b.Disarm()
	if _, err := c.Exec(t.Context(), `INSERT INTO public.t VALUES (2)`); err != nil {
		t.Error(err)
	}
	hit(t, fired, false)
	b.want(t, 2)
}

// TestTLSIsDeclined: a client that would rather have TLS goes on without.
func TestTLSIsDeclined(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "sslmode=prefer"
	if err := connect(t, u.String()).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
