package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const created = "com.cellway.projects.task.created.v1"

// open is a prepared database of its own, with the owner's connection.
func open(tb testing.TB) (*store.Store, *pgx.Conn) {
	tb.Helper()
	owner := storetest.Postgres(tb)
	conn, err := pgx.Connect(tb.Context(), owner)
	if err != nil {
		tb.Fatal(err)
	}
	app := testkit.SetUser(tb, owner, "app"+conn.Config().Database, "secret")
	if err := store.Prepare(tb.Context(), owner, app); err != nil {
		tb.Fatal(err)
	}
	s, err := store.Open(tb.Context(), app, store.Options{Cell: "c1"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close(context.Background())
		s.Close()
	})
	return s, conn
}

var start = testkit.Start

func openRedis(tb testing.TB) *redis.Client {
	tb.Helper()
	return testkit.RedisClient(tb, testkit.Redis(tb))
}

// write appends n events in one transaction each, admitting the tenant first, and
// reads them back.
func write(tb testing.TB, s *store.Store, t directory.TenantID, n int) (events []Event) {
	tb.Helper()
	if _, err := fence.Admit(tb.Context(), s.DB(), t, 1); err != nil {
		tb.Fatal(err)
	}
	before, _ := read(tb, s, t)
	for i := range n {
		if err := s.InTenant(tb.Context(), t, 1, func(ctx context.Context, tx *store.Tx) error {
			return Append(ctx, tx, New{Type: created, Subject: "task/" + strconv.Itoa(i), Data: map[string]int{"n": i}})
		}); err != nil {
			tb.Fatal(err)
		}
	}
	all, _ := read(tb, s, t)
	return all[len(before):]
}

func read(tb testing.TB, s *store.Store, t directory.TenantID) (events []Event, pos Position) {
	tb.Helper()
	err := s.InTenant(tb.Context(), t, 1, func(ctx context.Context, tx *store.Tx) (err error) {
		if events, err = After(ctx, tx, 0, 100_000); err != nil {
			return err
		}
		pos, err = ReadPosition(ctx, tx)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return events, pos
}

// eventually polls until ok, for at most half a minute.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			tb.Fatalf("not within 30 s: %s", what)
		}
		store.Wait(tb.Context(), 20*time.Millisecond)
	}
}

func TestAppendReadsBackTheSame(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	got := write(t, s, 1, 3)
	if _, pos := read(t, s, 1); pos != (Position{Last: 3}) || len(got) != 3 {
		t.Fatalf("got position %+v and %d events", pos, len(got))
	}
	for i, e := range got {
		if e.Seq != int64(i+1) || e.Cell != "c1" || e.Epoch != 1 || e.Module() != "projects" || e.Tenant != 1 ||
			e.Type != created || e.Subject != fmt.Sprintf("task/%d", i) || string(e.Data) != fmt.Sprintf(`{"n":%d}`, i) ||
			e.ID == "" || time.Since(e.Time) > time.Hour {
			t.Errorf("got %+v", e)
		}
	}
}

// Numbers have no gaps whatever transactions roll back, and follow commit order.
func TestNumbersHaveNoGaps(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	write(t, s, 1, 0)
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
					for range 1 + i%2 {
						if err := Append(ctx, tx, New{Type: created, Subject: "x", Data: w}); err != nil {
							return err
						}
					}
					if i%5 == 0 {
						return boom
					}
					return nil
				})
				if err != nil && !errors.Is(err, boom) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	events, pos := read(t, s, 1)
	for i, e := range events {
		if e.Seq != int64(i+1) {
			t.Fatalf("event %d has number %d", i+1, e.Seq)
		}
	}
	if want := int64(8 * (16 + 8)); pos.Last != want { // of 20, 4 roll back, 2 of them with two events
		t.Errorf("last is %d, want %d", pos.Last, want)
	}
}

// Whoever has the tenant's next number waits for nothing any more: not for a row that
// was queued after the event, which somebody has who waits for a number.
func TestWhoHasTheNumberWaitsForNothing(t *testing.T) {
	t.Parallel()
	s, owner := open(t)
	write(t, s, 1, 1)
	const touch = `UPDATE cell.outbox_cursor SET published = published WHERE tenant_id = 1`
	if _, err := owner.Exec(t.Context(), `SELECT set_config('cell.tenant', '1', false)`); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Exec(t.Context(), `INSERT INTO cell.outbox_cursor (tenant_id, published) VALUES (1, 0)`); err != nil {
		t.Fatal(err)
	}
	one := New{Type: created, Subject: "x"}
	queued := make(chan error, 1)
	err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Exec(ctx, touch); err != nil {
			return err
		}
		go func() {
			queued <- s.InTenant(ctx, 1, 1, func(ctx context.Context, tx *store.Tx) error {
				err := Append(ctx, tx, one)
				tx.Queue(touch)
				return err
			})
		}()
		for waiting := 0; waiting == 0; {
			if err := owner.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
				return err
			}
		}
		return Append(ctx, tx, one)
	})
	if err := errors.Join(err, <-queued); err != nil {
		t.Error(err)
	}
	if _, pos := read(t, s, 1); pos.Last != 3 {
		t.Errorf("%d events, want 3", pos.Last)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	write(t, s, 1, 0)
	for name, n := range map[string]New{
		"type without version": {Type: "com.cellway.projects.task.created"},
		"type without module":  {Type: "task.created.v1"},
		"data that is no JSON": {Type: created, Data: make(chan int)},
		"data that is too big": {Type: created, Data: make([]byte, maxData)},
	} {
		err := s.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
			return Append(ctx, tx, n)
		})
		if err == nil {
			t.Errorf("%s: got nil", name)
		}
	}
}

// What goes over the wire is a CloudEvent by the judgement of its own library.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	e := Event{
		ID: "0192f0c1-0000-7000-8000-000000000001", Tenant: 1 << 55, Seq: 1 << 40, Type: created, Subject: "task/1",
		Time: time.Date(2026, 11, 23, 1, 2, 3, 456000, time.UTC), Data: json.RawMessage(`{"a":1}`),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Epoch: 3, Cell: "c1",
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var ce event.Event
	if err := json.Unmarshal(b, &ce); err != nil {
		t.Fatal(err)
	}
	if err := ce.Validate(); err != nil {
		t.Error(err)
	}
	if ce.Source() != "/cells/c1/projects" || ce.Subject() != "task/1" || !ce.Time().Equal(e.Time) || string(ce.Data()) != `{"a":1}` {
		t.Errorf("got %s", ce)
	}
	for k, want := range map[string]string{
		"tenantid": "36028797018963968", "sequence": "1099511627776", "partitionkey": "36028797018963968",
		"cellepoch": "3", "traceparent": e.Traceparent,
	} {
		if got := ce.Extensions()[k]; got != want {
			t.Errorf("%s: got %v, want %s", k, got, want)
		}
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil || fmt.Sprint(back) != fmt.Sprint(e) {
		t.Errorf("got %v, %v\nwant %v", back, err, e)
	}
	for _, bad := range []string{``, `{}`, `{"specversion":"1.0","id":"x","tenantid":"1","sequence":"0","cellepoch":"1","source":"/cells/c/m"}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s: got nil", bad)
		}
	}
}

func TestPartitionIsTheSameInSQL(t *testing.T) {
	t.Parallel()
	_, owner := open(t)
	rapid.Check(t, func(rt *rapid.T) {
		id := directory.TenantID(rapid.Int64Range(1, 1<<56-1).Draw(rt, "tenant"))
		var got int
		if err := owner.QueryRow(t.Context(), `SELECT cell.partition($1, $2)`, id, Partitions).Scan(&got); err != nil || got != Partition(id) {
			rt.Fatalf("tenant %d: got %d, %v, want %d", id, got, err, Partition(id))
		}
	})
	// The tenants of one cell of four, placed in turn, use every partition.
	used := map[int]int{}
	for i := directory.TenantID(0); i < 400; i++ {
		used[Partition(4*i+1)]++
	}
	for p := range Partitions {
		if used[p] < 25 {
			t.Errorf("partition %d has %d of 400 tenants", p, used[p])
		}
	}
}
