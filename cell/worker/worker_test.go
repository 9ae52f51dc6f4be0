package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

// TestMain runs the tests, or, where a test started this binary again, a relay
// and a worker until they are killed.
func TestMain(m *testing.M) {
	if os.Getenv(childDatabase) != "" {
		child()
		return
	}
	testkit.Main(m)
}

const (
	created = "com.cellway.projects.task.created.v1"
	renamed = "com.cellway.projects.task.renamed.v1"
)

// A stack is a cell's data layer: a database and a Redis of its own.
type stack struct {
	store    *store.Store
	redis    *redis.Client
	owner    *pgx.Conn
	url, bus string
}

// effects has one row per event that the consumer "log" did; the numbers come
// from the database, so that the order of effects shows.
const effects = `
	CREATE SCHEMA fx;
	GRANT USAGE ON SCHEMA fx TO cell_app;
	CREATE TABLE fx.log (tenant_id bigint NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, seq bigint NOT NULL, consumer text NOT NULL,
	    PRIMARY KEY (tenant_id, n));
	SELECT cell.protect('fx.log')`

func open(tb testing.TB) *stack {
	tb.Helper()
	return openAt(tb, storetest.Postgres(tb))
}

func openAt(tb testing.TB, owner string) *stack {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	st := &stack{owner: conn, url: testkit.SetUser(tb, owner, "app"+conn.Config().Database, "secret"), bus: testkit.Redis(tb)}
	if err := store.Prepare(tb.Context(), owner, st.url); err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Exec(tb.Context(), effects); err != nil {
		tb.Fatal(err)
	}
	if st.store, err = store.Open(tb.Context(), st.url, store.Options{Cell: "c1"}); err != nil {
		tb.Fatal(err)
	}
	st.redis = testkit.RedisClient(tb, st.bus)
	tb.Cleanup(func() {
		conn.Close(context.Background())
		st.store.Close()
	})
	return st
}

// record is the effect: a row per event.
func record(consumer string) func(context.Context, *store.Tx, outbox.Event) error {
	return func(ctx context.Context, tx *store.Tx, e outbox.Event) error {
		_, err := tx.Exec(ctx, `INSERT INTO fx.log (tenant_id, seq, consumer) VALUES ($1, $2, $3)`, tx.Tenant, e.Seq, consumer)
		return err
	}
}

// logger is a consumer that records.
func logger(name string, types ...string) Consumer {
	return Consumer{Name: name, Types: types, Handle: record(name)}
}

// quick makes tests quick; what it tests is not how long things take.
func quick() Options {
	return Options{
		Backoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Sweep: 100 * time.Millisecond, Grace: 200 * time.Millisecond,
	}
}

func (st *stack) worker(tb testing.TB, o Options, consumers ...Consumer) *Worker {
	tb.Helper()
	w, err := New(st.store, st.redis, consumers, o)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

func (st *stack) relay() *outbox.Relay {
	return outbox.NewRelay(st.store, st.redis, outbox.RelayOptions{Poll: 100 * time.Millisecond})
}

var start = testkit.Start

// admit lets tenants in at epoch 1.
func (st *stack) admit(tb testing.TB, tenants ...directory.TenantID) {
	tb.Helper()
	for _, t := range tenants {
		if _, err := fence.Admit(tb.Context(), st.store.DB(), t, 1); err != nil {
			tb.Fatal(err)
		}
	}
}

// write appends n events of a type, each in a transaction of its own.
func (st *stack) write(tb testing.TB, t directory.TenantID, n int, kind string) {
	tb.Helper()
	for i := range n {
		if err := appendOne(tb.Context(), st.store, t, kind, i); err != nil {
			tb.Fatal(err)
		}
	}
}

func appendOne(ctx context.Context, s *store.Store, t directory.TenantID, kind string, i int) error {
	return s.InTenant(ctx, t, 1, func(ctx context.Context, tx *store.Tx) error {
		return outbox.Append(ctx, tx, outbox.New{Type: kind, Subject: "task/" + strconv.Itoa(i), Data: i})
	})
}

// effects are the numbers of the events that a consumer did, in the order of doing.
func (st *stack) effects(tb testing.TB, t directory.TenantID, epoch directory.Epoch, consumer string) (seqs []int64) {
	tb.Helper()
	err := st.store.InTenant(tb.Context(), t, epoch, func(ctx context.Context, tx *store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT seq FROM fx.log WHERE consumer = $1 ORDER BY n`, consumer)
		if err != nil {
			return err
		}
		seqs, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return seqs
}

// waitEffects waits until a consumer has done n events of the tenant, and fails
// unless these are 1 to n, once each and in order.
func (st *stack) waitEffects(tb testing.TB, t directory.TenantID, n int, consumer string) {
	tb.Helper()
	var got []int64
	eventually(tb, fmt.Sprintf("%s has done %d events of tenant %d", consumer, n, t), func() bool {
		got = st.effects(tb, t, 1, consumer)
		return len(got) >= n
	})
	for i, seq := range got {
		if seq != int64(i+1) || i >= n {
			tb.Fatalf("tenant %d: effect %d is of event %d: %v", t, i+1, seq, got)
		}
	}
}

// eventually polls until ok, for at most a minute.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			tb.Fatalf("not within a minute: %s", what)
		}
		store.Wait(tb.Context(), 20*time.Millisecond)
	}
}

func TestEventsHaveTheirEffectOnceAndInOrder(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1, 2)
	start(t, st.relay(), st.worker(t, quick(), logger("log"), logger("other", renamed)))
	st.write(t, 1, 5, created)
	st.write(t, 2, 100, created)
	st.write(t, 1, 1, renamed)
	st.waitEffects(t, 1, 6, "log")
	st.waitEffects(t, 2, 100, "log")
	eventually(t, "a consumer gets the types it wants", func() bool {
		got := st.effects(t, 1, 1, "other")
		return len(got) == 1 && got[0] == 6
	})
	eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
}

// pending is how many entries were given to a consumer and not acknowledged.
func (st *stack) pending(tb testing.TB, consumer string) (n int64) {
	tb.Helper()
	for p := range outbox.Partitions {
		x, err := st.redis.XPending(tb.Context(), outbox.Stream(p), consumer).Result()
		if err != nil && strings.HasPrefix(err.Error(), "NOGROUP") {
			continue // the worker makes each when it has the partition's lock
		}
		if err != nil {
			tb.Fatal(err)
		}
		n += x.Count
	}
	return n
}

func TestConsumersAreChecked(t *testing.T) {
	t.Parallel()
	for name, cs := range map[string][]Consumer{
		"no name": {{Handle: record("")}}, "no function": {{Name: "a"}}, "twice": {logger("a"), logger("a")},
	} {
		if _, err := New(nil, nil, cs, Options{}); err == nil {
			t.Errorf("%s: got nil", name)
		}
	}
}

var errBoom = errors.New("boom")
