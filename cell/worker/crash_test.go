package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// A worker dies between any two steps; the next one goes on where the rows are.
func TestCrashBetweenTheSteps(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"handled", "applied"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			st := open(t)
			st.admit(t, 1)
			st.write(t, 1, 3, created)
			start(t, st.relay())
			ctx, kill := context.WithCancel(t.Context())
			w := st.worker(t, quick(), logger("log"))
			w.hook = func(at string) error {
				if at == step {
					kill()
					return errBoom
				}
				return nil
			}
			if err := w.Run(ctx); err != nil {
				t.Fatal(err)
			}
			done := len(st.effects(t, 1, 1, "log"))
			if applied := step == "applied"; (done > 0) != applied {
				t.Fatalf("%d events were done", done)
			}
			// Without the sweep only what is pending in the stream can bring the rest.
			o := quick()
			o.Sweep, o.Grace = time.Hour, time.Hour
			start(t, st.worker(t, o, logger("log")))
			st.waitEffects(t, 1, 3, "log")
			eventually(t, "all entries are acknowledged", func() bool { return st.pending(t, "log") == 0 })
		})
	}
}

const (
	childDatabase = "CELLWAY_TEST_DATABASE_URL"
	childRedis    = "CELLWAY_TEST_REDIS_URL"
)

// child is a relay and a worker in a process of their own.
func child() {
	ctx := context.Background()
	s, err := store.Open(ctx, os.Getenv(childDatabase), store.Options{Cell: "c1"})
	if err != nil {
		panic(err)
	}
	o, err := redis.ParseURL(os.Getenv(childRedis))
	if err != nil {
		panic(err)
	}
	rdb := redis.NewClient(o)
	w, err := New(s, rdb, []Consumer{logger("log"), logger("other")}, quick())
	if err != nil {
		panic(err)
	}
	go func() { _ = w.Run(ctx) }()
	fmt.Println("running")
	_ = outbox.NewRelay(s, rdb, outbox.RelayOptions{Poll: 100 * time.Millisecond}).Run(ctx)
}

// Two processes, each a relay and a worker, run against each other and are
// killed with SIGKILL at random while tenants write, and Redis is flushed in
// the middle of it. Every event has its effect once, in order.
func TestProcessesKilledAtRandom(t *testing.T) {
	t.Parallel()
	st := open(t)
	const tenants, events, kills = 5, 150, 6
	var writing, killing sync.WaitGroup
	var written atomic.Bool
	for id := directory.TenantID(1); id <= tenants; id++ {
		st.admit(t, id)
		writing.Go(func() {
			for i := range events {
				if err := appendOne(t.Context(), st.store, id, created, i); err != nil {
					t.Error(err)
					return
				}
				store.Wait(t.Context(), 10*time.Millisecond)
			}
		})
	}
	for i := range 2 {
		killing.Go(func() {
			for n := 0; n < kills || !written.Load(); n++ {
				runChild(t, st, time.Duration(100+rand.N(700))*time.Millisecond)
				if i == 0 && n == 2 {
					if err := st.redis.FlushAll(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writing.Wait()
	written.Store(true)
	killing.Wait()
	start(t, st.relay(), st.worker(t, quick(), logger("log"), logger("other")))
	for id := directory.TenantID(1); id <= tenants; id++ {
		st.waitEffects(t, id, events, "log")
		st.waitEffects(t, id, events, "other")
	}
}

// runChild starts this test binary as a child and kills it when it has run for life.
func runChild(tb testing.TB, st *stack, life time.Duration) {
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+st.url, childRedis+"="+st.bus)
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		tb.Error(err)
		return
	}
	if _, err := out.Read(make([]byte, 8)); err != nil { // until it runs
		tb.Errorf("child did not start: %v", err)
	}
	store.Wait(tb.Context(), life)
	_ = cmd.Process.Kill() // SIGKILL
	_ = cmd.Wait()         // says that it was killed
}

// The partitions of a killed worker are taken over; the events that were given
// to it and not done come first.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	st := open(t)
	st.admit(t, 1)
	start(t, st.relay())
	entered := make(chan struct{}, 1)
	stuck := Consumer{Name: "log", Handle: func(ctx context.Context, _ *store.Tx, _ outbox.Event) error {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-ctx.Done() // a consumer that hangs until its process ends
		return ctx.Err()
	}}
	stop := start(t, st.worker(t, quick(), stuck))
	st.write(t, 1, 10, created)
	<-entered
	o := quick()
	o.Sweep, o.Grace = time.Hour, time.Hour
	start(t, st.worker(t, o, logger("log"))) // waits for the locks
	stop()
	st.waitEffects(t, 1, 10, "log")
}
