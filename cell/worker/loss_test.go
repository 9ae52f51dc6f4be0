package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// F11: what Redis forgets is read from Postgres.
func TestFlushLosesNothing(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1, 2)
	start(t, st.relay())
	stop := start(t, st.worker(t, quick(), logger("log")))
	st.write(t, 1, 10, created)
	st.waitEffects(t, 1, 10, "log")
	stop()
	st.write(t, 1, 10, created)
	st.write(t, 2, 10, created)
	eventually(t, "all is published", func() bool { return st.published(t) == 30 })
	if err := st.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	start(t, st.worker(t, quick(), logger("log")))
	st.waitEffects(t, 1, 20, "log")
	st.waitEffects(t, 2, 10, "log")
	if err := st.redis.FlushAll(t.Context()).Err(); err != nil { // groups and all, under a running worker
		t.Fatal(err)
	}
	st.write(t, 1, 10, created)
	st.waitEffects(t, 1, 30, "log")
}

// published is how many events the relay has recorded as published.
func (st *stack) published(tb testing.TB) int {
	tb.Helper()
	return testCount(tb, st, `SELECT coalesce(sum(published), 0) FROM cell.outbox_cursor`)
}

// With the sweep far away, a gap in the stream is noticed by the number that
// follows it, and closed in order.
func TestAGapIsReadFromPostgres(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	start(t, st.relay())
	st.write(t, 1, 10, created)
	eventually(t, "all is published", func() bool { return st.published(t) == 10 })
	stream := outbox.Stream(outbox.Partition(1))
	entries, err := st.redis.XRange(t.Context(), stream, "-", "+").Result()
	if err != nil || len(entries) != 10 {
		t.Fatalf("got %d entries, %v", len(entries), err)
	}
	for _, i := range []int{0, 3, 4, 7} {
		if err := st.redis.XDel(t.Context(), stream, entries[i].ID).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, junk := range []map[string]any{{"event": "{}"}, {"other": "x"}} { // not ours: dropped
		if err := st.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, Values: junk}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	o := quick()
	o.Sweep, o.Grace = time.Hour, time.Hour
	start(t, st.worker(t, o, logger("log")))
	st.waitEffects(t, 1, 10, "log")
	eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
}

// Entries beyond what a lane remembers are still done: the outbox has them.
func TestMoreThanALaneRemembers(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	const n = 3 * maxLane
	err := st.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		for i := range n {
			if err := outbox.Append(ctx, tx, outbox.New{Type: created, Subject: "x", Data: i}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, st.relay())
	eventually(t, "all is published", func() bool { return st.published(t) == n })
	o := quick()
	o.Sweep, o.Grace = time.Hour, time.Hour
	start(t, st.worker(t, o, logger("log")))
	st.waitEffects(t, 1, n, "log")
}

// Without Redis events are late, not lost: consumers read them from the outbox.
func TestRedisIsNotNeededForTheEffect(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.write(t, 1, 5, created)
	gone := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer gone.Close()
	w, err := New(st.store, gone, []Consumer{logger("log")}, quick())
	if err != nil {
		t.Fatal(err)
	}
	start(t, w)
	st.waitEffects(t, 1, 5, "log")
}

// Events go when their time is over, they are published and every consumer has
// done them; a consumer that is new begins with the oldest one that is left.
func TestOldEventsAreRemoved(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.write(t, 1, 5, created)
	o := quick()
	o.Keep = time.Nanosecond
	w := st.worker(t, o, logger("log"), logger("slow"))
	check := func(why string, want int64) {
		t.Helper()
		if n, err := w.retainOnce(t.Context()); err != nil || n != want {
			t.Fatalf("%s: removed %d, %v, want %d", why, n, err, want)
		}
	}
	check("not published", 0)
	start(t, st.relay())
	eventually(t, "all is published", func() bool { return st.published(t) == 5 })
	stop := start(t, st.worker(t, quick(), logger("log")))
	st.waitEffects(t, 1, 5, "log")
	stop()
	check("one consumer has not seen them", 0)
	stop = start(t, st.worker(t, quick(), logger("slow")))
	st.waitEffects(t, 1, 5, "slow")
	stop()
	o.Keep = time.Hour
	young := st.worker(t, o, logger("log"))
	if n, err := young.retainOnce(t.Context()); err != nil || n != 0 {
		t.Errorf("removed %d events before their time, %v", n, err)
	}
	check("done and old", 5)
	st.write(t, 1, 2, created)
	start(t, st.worker(t, quick(), logger("late")))
	eventually(t, "the new consumer has done what is left", func() bool {
		got := st.effects(t, 1, 1, "late")
		return len(got) == 2 && got[0] == 6 && got[1] == 7
	})
}

// A tenant that stands still, or has left, by its turn keeps no other's old events.
func TestOldEventsOfTheOthersAreRemoved(t *testing.T) {
	t.Parallel()
	st := open(t)
	start(t, st.relay(), st.worker(t, quick(), logger("log")))
	for id := range directory.TenantID(3) {
		st.admit(t, id+1)
		st.write(t, id+1, 1, created)
		st.waitEffects(t, id+1, 1, "log")
	}
	eventually(t, "all is published", func() bool { return st.published(t) == 3 })
	o := quick()
	o.Keep = time.Nanosecond
	w := st.worker(t, o, logger("log"))
	w.hook = func(step string) error {
		if step != "found old events" {
			return nil
		}
		_, err := fence.Freeze(t.Context(), st.store.DB(), 1, 1, "mv1", time.Second)
		return err
	}
	if n, err := w.retainOnce(t.Context()); err != nil || n != 2 {
		t.Errorf("removed %d, %v, want 2", n, err)
	}
}

// Old events go oldest first, up to the first one that is not: by the clock of the cell that wrote them the ones behind it
// may be older, and a gap in the middle would end every later move of the tenant.
func TestOldEventsLeaveNoGap(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	st.write(t, 1, 5, created)
	o := quick()
	o.Keep = time.Hour
	w := st.worker(t, o, logger("log"))
	start(t, st.relay(), st.worker(t, quick(), logger("log")))
	st.waitEffects(t, 1, 5, "log")
	eventually(t, "all is published", func() bool { return st.published(t) == 5 })
	for _, step := range []struct {
		young   int64 // the one event whose clock was ahead
		removed int64
	}{{3, 2}, {0, 3}} {
		if _, err := st.owner.Exec(t.Context(), fmt.Sprintf(`
			SELECT set_config('cell.tenant', '1', false);
			UPDATE cell.outbox SET at = now() - CASE seq WHEN %d THEN interval '0' ELSE interval '2 h' END`, step.young)); err != nil {
			t.Fatal(err)
		}
		if n, err := w.retainOnce(t.Context()); err != nil || n != step.removed {
			t.Errorf("event %d is young: removed %d, %v, want %d", step.young, n, err, step.removed)
		}
	}
}

// The relay's span and the consumer's are in the trace of the request.
func TestOneTrace(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	otel.SetTracerProvider(provider)
	st := open(t)
	st.admit(t, 1)
	done := make(chan trace.SpanContext, 1)
	start(t, st.relay(), st.worker(t, quick(), Consumer{Name: "log", Handle: func(ctx context.Context, _ *store.Tx, _ outbox.Event) error {
		done <- trace.SpanContextFromContext(ctx)
		return nil
	}}))
	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	if err := appendOne(ctx, st.store, 1, created, 0); err != nil {
		t.Fatal(err)
	}
	request.End()
	want := request.SpanContext().TraceID()
	if got := (<-done).TraceID(); got != want {
		t.Errorf("the consumer runs in trace %s, want %s", got, want)
	}
	names := map[string]bool{}
	eventually(t, "both spans are there", func() bool {
		for _, s := range exporter.GetSpans() {
			if s.SpanContext.TraceID() == want {
				names[s.Name] = true
			}
		}
		return names["publish "+created] && names["process "+created]
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	o := quick()
	reg := prometheus.NewRegistry()
	o.Registry = reg
	w := st.worker(t, o, logger("log"))
	start(t, st.relay(), w)
	st.write(t, 1, 3, created)
	eventually(t, "three events are counted", func() bool {
		return testutil.ToFloat64(w.metrics.consumed.WithLabelValues("log")) == 3
	})
	for _, name := range []string{"cell_event_failures_total", "cell_dead_letters_total"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s has %d series (%v) before anything has failed, want 1: an alert would miss the first one", name, n, err)
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
