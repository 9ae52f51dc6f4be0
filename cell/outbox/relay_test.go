package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// published is what the streams hold of a tenant, repeated events dropped. It
// fails where a repetition differs from the first, or an order is wrong.
func published(tb testing.TB, rdb *redis.Client, t directory.TenantID) (events []Event, repeated int) {
	tb.Helper()
	entries, err := rdb.XRange(tb.Context(), Stream(Partition(t)), "-", "+").Result()
	if err != nil {
		tb.Fatal(err)
	}
	seen := map[int64]string{}
	for _, m := range entries {
		e, err := FromEntry(m.Values)
		if err != nil {
			tb.Fatal(err)
		}
		if e.Tenant != t {
			continue
		}
		body := m.Values[field].(string)
		if was, ok := seen[e.Seq]; ok {
			repeated++
			if was != body {
				tb.Fatalf("event %d came as %s and as %s", e.Seq, was, body)
			}
			continue
		}
		seen[e.Seq] = body
		if e.Seq != int64(len(events)+1) {
			tb.Fatalf("event %d follows %d", e.Seq, len(events))
		}
		events = append(events, e)
	}
	return events, repeated
}

func waitPublished(tb testing.TB, s *store.Store, t directory.TenantID, n int64) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("event %d of tenant %d is published", n, t), func() bool {
		_, pos := read(tb, s, t)
		return pos.Published == n
	})
}

func TestRelayPublishesInOrder(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	rdb := openRedis(t)
	before := write(t, s, 1, 5) // no notification was heard of these
	start(t, NewRelay(s, rdb, RelayOptions{}))
	waitPublished(t, s, 1, 5)
	after := write(t, s, 1, 2*batch)
	write(t, s, 2, 7)
	waitPublished(t, s, 1, 5+2*batch)
	waitPublished(t, s, 2, 7)
	got, repeated := published(t, rdb, 1)
	if want := append(before, after...); fmt.Sprint(got) != fmt.Sprint(want) || repeated != 0 {
		t.Errorf("%d events published, %d repeated, want %d and 0", len(got), repeated, len(want))
	}
}

// With the poll far away only the notification can wake the relay.
func TestACommitWakesTheRelay(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	rdb := openRedis(t)
	r := NewRelay(s, rdb, RelayOptions{Poll: time.Hour})
	start(t, r)
	write(t, s, 1, 1)
	eventually(t, "the relay has its partitions", func() bool { return r.queues[Partition(1)].isOpen() })
	waitPublished(t, s, 1, 1)
	for n := range int64(20) {
		write(t, s, 1, 1)
		waitPublished(t, s, 1, n+2)
	}
}

// What commits while its tenant is being published has a notification of its own,
// also where the batch was full to the last place.
func TestWhatCommitsMeanwhileIsNotLeft(t *testing.T) {
	t.Parallel()
	for _, first := range []int{1, batch, turn * batch} {
		s, _ := open(t)
		rdb := openRedis(t)
		write(t, s, 1, first)
		r := NewRelay(s, rdb, RelayOptions{Poll: time.Hour})
		var sent atomic.Int64
		r.hook = func(step string) error {
			if step == "sent" && sent.Add(1) <= 2 {
				write(t, s, 1, 1)
			}
			return nil
		}
		start(t, r)
		waitPublished(t, s, 1, int64(first)+2)
	}
}

// A relay dies between any two steps: what follows repeats, identically, and
// leaves nothing out.
func TestCrashBetweenTheSteps(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"read", "sent"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t)
			rdb := openRedis(t)
			write(t, s, 1, 3)
			ctx, kill := context.WithCancel(t.Context())
			r := NewRelay(s, rdb, RelayOptions{})
			r.hook = func(at string) error {
				if at == step {
					kill()
					return errors.New("killed")
				}
				return nil
			}
			if err := r.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if _, pos := read(t, s, 1); pos.Published != 0 {
				t.Fatalf("the cursor is at %d before the events were recorded", pos.Published)
			}
			write(t, s, 1, 2)
			start(t, NewRelay(s, rdb, RelayOptions{}))
			waitPublished(t, s, 1, 5)
			got, repeated := published(t, rdb, 1)
			if want := map[string]int{"read": 0, "sent": 3}[step]; len(got) != 5 || repeated != want {
				t.Errorf("%d events, %d repeated, want 5 and %d", len(got), repeated, want)
			}
		})
	}
}

// Two relays run against each other and are stopped at random, while tenants
// write: every event is published, in order.
func TestTwoRelaysStoppedAtRandom(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	rdb := openRedis(t)
	const tenants, events = 6, 60
	var writing sync.WaitGroup
	var done atomic.Bool
	for id := directory.TenantID(1); id <= tenants; id++ {
		writing.Go(func() { write(t, s, id, events) })
	}
	var relays sync.WaitGroup
	for range 2 {
		relays.Go(func() {
			for !done.Load() && t.Context().Err() == nil {
				ctx, kill := context.WithCancel(t.Context())
				r := NewRelay(s, rdb, RelayOptions{Poll: 50 * time.Millisecond})
				r.hook = func(string) error {
					if rand.N(10) == 0 {
						kill()
						return errors.New("killed")
					}
					return nil
				}
				time.AfterFunc(time.Second, kill)
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	relays.Wait()
	start(t, NewRelay(s, rdb, RelayOptions{}))
	for id := directory.TenantID(1); id <= tenants; id++ {
		waitPublished(t, s, id, events)
		if got, _ := published(t, rdb, id); len(got) != events {
			t.Errorf("tenant %d: %d events published, want %d", id, len(got), events)
		}
	}
}

func TestRelayLeavesAFrozenTenantAlone(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	rdb := openRedis(t)
	write(t, s, 1, 2)
	if _, err := fence.Freeze(t.Context(), s.DB(), 1, 1, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	r := NewRelay(s, rdb, RelayOptions{})
	if _, err := r.publish(t.Context(), 1, 1); err == nil {
		t.Error("a relay that does not know published for a frozen tenant")
	}
	if got, _ := published(t, rdb, 1); len(got) != 0 {
		t.Errorf("%d events published", len(got))
	}
	start(t, r)
	write(t, s, 2, 1)
	waitPublished(t, s, 2, 1) // it runs, and
	if got, _ := published(t, rdb, 1); len(got) != 0 {
		t.Errorf("%d events published of a frozen tenant", len(got))
	}
	if _, err := fence.Activate(t.Context(), s.DB(), 1, 2, 3, "mv1", time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on after the activation", func() bool {
		got, _ := published(t, rdb, 1)
		return len(got) == 2
	})
}

func TestRelayMetrics(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	rdb := openRedis(t)
	write(t, s, 1, 3)
	reg := prometheus.NewRegistry()
	r := NewRelay(s, rdb, RelayOptions{Registry: reg})
	if err := r.observeOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(r.metrics.pending); got != 3 {
		t.Errorf("pending is %v, want 3", got)
	}
	if got := testutil.ToFloat64(r.metrics.lag); got <= 0 || got > 60 {
		t.Errorf("lag is %v s", got)
	}
	if _, err := r.publish(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := r.observeOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(r.metrics.pending); got != 0 {
		t.Errorf("pending is %v, want 0", got)
	}
	if got := testutil.ToFloat64(r.metrics.published); got != 3 {
		t.Errorf("published is %v, want 3", got)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func FuzzFromEntry(f *testing.F) {
	good, err := json.Marshal(Event{ID: "x", Tenant: 1, Seq: 1, Type: created, Epoch: 1, Cell: "c1", Data: json.RawMessage(`1`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(`{"specversion":"1.0","source":"///"}`)
	f.Fuzz(func(t *testing.T, body string) {
		e, err := FromEntry(map[string]any{field: body})
		if err == nil && (e.Tenant <= 0 || e.Seq <= 0) {
			t.Errorf("took %+v", e)
		}
	})
}
