package worker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// A deadLetter is a row of cell.dead_letter.
type deadLetter struct {
	Consumer string
	Seq      int64
	Event    outbox.Event
	Error    string
	Attempts int
}

func (st *stack) deadLetters(tb testing.TB, t directory.TenantID) []deadLetter {
	tb.Helper()
	rows, err := st.owner.Query(tb.Context(), `SELECT consumer, seq, event, error, attempts FROM cell.dead_letter WHERE tenant_id = $1 ORDER BY at, consumer, seq`, t)
	if err != nil {
		tb.Fatal(err)
	}
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[deadLetter])
	if err != nil {
		tb.Fatal(err)
	}
	return letters
}

// An event that always fails ends as a dead letter; the events around it have
// their effect, and other tenants do not notice.
func TestPoisonBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]func(ctx context.Context, tx *store.Tx) error{
		"error": func(context.Context, *store.Tx) error { return errBoom },
		"panic": func(context.Context, *store.Tx) error { panic("boom") },
		"swallowed database error": func(ctx context.Context, tx *store.Tx) error {
			_, _ = tx.Exec(ctx, `SELECT 1/0 AS boom`)
			return nil
		},
		"queued statement": func(_ context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT 1/0 AS boom`)
			return nil
		},
		"queued argument that does not fit": func(_ context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT $1::int4`, int64(1)<<40) // refused by the driver, before it is sent
			return nil
		},
		"deferred constraint": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO fx.deferred (tenant_id, boom) VALUES ($1, -1)`, tx.Tenant)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := open(t)
			if _, err := st.owner.Exec(t.Context(), `
				CREATE TABLE fx.deferred (tenant_id bigint PRIMARY KEY, boom bigint NOT NULL,
				    FOREIGN KEY (tenant_id, boom) REFERENCES fx.log (tenant_id, n) DEFERRABLE INITIALLY DEFERRED);
				SELECT cell.protect('fx.deferred')`); err != nil {
				t.Fatal(err)
			}
			st.admit(t, 1, 2)
			var tries atomic.Int64
			c := Consumer{Name: "log", Handle: func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
				if tx.Tenant == 1 && e.Seq == 4 {
					tries.Add(1)
					return poison(ctx, tx)
				}
				return record("log")(ctx, tx, e)
			}}
			o := quick()
			o.Attempts, o.Registry = 3, prometheus.NewRegistry()
			w := st.worker(t, o, c)
			st.write(t, 1, 9, created)
			start(t, st.relay(), w)
			st.write(t, 2, 9, created)
			st.waitEffects(t, 2, 9, "log")
			eventually(t, "the events around the poison are done", func() bool { return len(st.effects(t, 1, 1, "log")) >= 8 })
			want := []int64{1, 2, 3, 5, 6, 7, 8, 9}
			for i, seq := range st.effects(t, 1, 1, "log") {
				if seq != want[i] {
					t.Fatalf("effects are %v, want %v", st.effects(t, 1, 1, "log"), want)
				}
			}
			letters := st.deadLetters(t, 1)
			if len(letters) != 1 || letters[0].Seq != 4 || letters[0].Attempts != 3 || letters[0].Event.Seq != 4 ||
				letters[0].Consumer != "log" || letters[0].Error == "" {
				t.Errorf("dead letters are %+v", letters)
			}
			if tries.Load() < 3 {
				t.Errorf("%d tries, want 3 or, after a failed batch, more", tries.Load())
			}
			if got := testutil.ToFloat64(w.metrics.dead.WithLabelValues("log")); got != 1 {
				t.Errorf("counted %v dead letters", got)
			}
		})
	}
}

// While one tenant's event waits for its next try, other tenants go on, and its
// own later events wait for it.
func TestAFailureHoldsUpItsOwnTenantOnly(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.admit(t, other)
	var healed atomic.Bool
	failed := make(chan struct{}, 100)
	c := Consumer{Name: "log", Handle: func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
		if tx.Tenant == 1 && !healed.Load() {
			failed <- struct{}{}
			return errBoom
		}
		return record("log")(ctx, tx, e)
	}}
	o := quick()
	o.Attempts = 1000
	start(t, st.relay(), st.worker(t, o, c))
	st.write(t, 1, 3, created)
	<-failed
	st.write(t, other, 50, created)
	st.waitEffects(t, other, 50, "log")
	if got := st.effects(t, 1, 1, "log"); len(got) != 0 {
		t.Errorf("effects %v before the first event was done", got)
	}
	healed.Store(true)
	st.waitEffects(t, 1, 3, "log")
}

// other shares tenant 1's partition.
var other = func() directory.TenantID {
	for t := directory.TenantID(2); ; t++ {
		if outbox.Partition(t) == outbox.Partition(1) {
			return t
		}
	}
}()

// Attempts are counted in the database: a worker that is restarted goes on counting.
func TestAttemptsSurviveARestart(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.write(t, 1, 1, created)
	start(t, st.relay())
	for attempt := 1; attempt <= 2; attempt++ {
		ctx, kill := context.WithCancel(t.Context())
		o := quick()
		o.Attempts = 2
		w := st.worker(t, o, Consumer{Name: "log", Handle: func(context.Context, *store.Tx, outbox.Event) error { return errBoom }})
		w.hook = func(at string) error {
			if at == "applied" {
				kill()
				return errBoom
			}
			return nil
		}
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if letters := st.deadLetters(t, 1); len(letters) != 1 || letters[0].Attempts != 2 || !strings.Contains(letters[0].Error, "boom") {
		t.Errorf("dead letters are %+v", letters)
	}
}

// A frozen tenant is no failure: its events wait, are no attempts, and have
// their effect at the epoch at which it may act again.
func TestAFrozenTenantWaits(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1, 2)
	st.write(t, 1, 3, created)
	stop := start(t, st.relay())
	eventually(t, "the events are published", func() bool {
		n, err := st.redis.XLen(t.Context(), outbox.Stream(outbox.Partition(1))).Result()
		return err == nil && n >= 3
	})
	stop()
	if _, err := fence.Freeze(t.Context(), st.store.DB(), 1, 1, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	o := quick()
	o.Attempts = 1
	start(t, st.relay(), st.worker(t, o, logger("log")))
	st.write(t, 2, 3, created)
	st.waitEffects(t, 2, 3, "log")
	eventually(t, "the frozen tenant's entries were read", func() bool { return st.pending(t, "log") == 3 })
	if _, err := fence.Activate(t.Context(), st.store.DB(), 1, 2, 3, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they are done after the activation", func() bool { return len(st.effects(t, 1, 3, "log")) == 3 })
	if n := testCount(t, st, `SELECT count(*) FROM cell.dead_letter`); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
}

// A tenant that moved away is not this cell's to work for: its entries go.
func TestAMovedTenantIsLetGo(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.write(t, 1, 3, created)
	stop := start(t, st.relay())
	eventually(t, "the events are published", func() bool {
		n, err := st.redis.XLen(t.Context(), outbox.Stream(outbox.Partition(1))).Result()
		return err == nil && n >= 3
	})
	stop()
	if _, err := st.owner.Exec(t.Context(), `UPDATE cell.fence SET state = 'moved', moved_to = 'c2', epoch = 2`); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	start(t, st.worker(t, quick(), Consumer{Name: "log", Handle: func(context.Context, *store.Tx, outbox.Event) error {
		calls.Add(1)
		return errors.New("must not be called")
	}}))
	eventually(t, "its entries were read and acknowledged", func() bool {
		g, err := st.redis.XInfoGroups(t.Context(), outbox.Stream(outbox.Partition(1))).Result()
		return err == nil && len(g) == 1 && g[0].EntriesRead >= 3 && g[0].Pending == 0
	})
	if calls.Load() != 0 {
		t.Errorf("the consumer was called %d times", calls.Load())
	}
}

func testCount(tb testing.TB, st *stack, sql string) (n int) {
	tb.Helper()
	if err := st.owner.QueryRow(tb.Context(), sql).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}
