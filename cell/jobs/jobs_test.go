package jobs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

var errBoom = errors.New("boom")

func TestAJobIsDoneOnceAndOnlyIfItsTransactionCommits(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1, 2)
	start(t, w.runner(t, quick(), noting))
	w.enqueue(t, 1, New{Kind: kind, Payload: "a"})
	w.enqueue(t, 1, New{Kind: kind, Payload: "b", At: time.Now().Add(100 * time.Millisecond)})
	w.enqueue(t, 2, New{Kind: kind, Payload: "later", At: time.Now().Add(time.Hour)})
	err := w.store.InTenant(t.Context(), 2, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := Enqueue(ctx, tx, New{Kind: kind, Payload: "never"})
		return errors.Join(err, errBoom)
	})
	if !errors.Is(err, errBoom) {
		t.Fatal(err)
	}
	eventually(t, "both jobs", func() bool { return slices.Equal(w.effects(t, 1), []string{"a", "b"}) })
	eventually(t, "both are done", func() bool { return slices.Equal(w.states(t, 1), []string{"done", "done"}) })
	if got := w.effects(t, 2); len(got) != 0 || !slices.Equal(w.states(t, 2), []string{"available"}) {
		t.Errorf("tenant 2: got %q, %q", got, w.states(t, 2))
	}
}

func TestAKeyHasOneJob(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	far := time.Now().Add(time.Hour)
	w.enqueue(t, 1, New{Kind: kind, Key: "k", Payload: "first", At: far})
	w.enqueue(t, 1, New{Kind: kind, Key: "k", Payload: "second"})
	w.enqueue(t, 1, New{Kind: kind, Key: "gone", Payload: "gone"})
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error { return Cancel(ctx, tx, kind, "gone", "unknown") })
	start(t, w.runner(t, quick(), noting))
	eventually(t, "the second", func() bool { return slices.Equal(w.states(t, 1), []string{"done"}) })
	w.enqueue(t, 1, New{Kind: kind, Key: "k", Payload: "third"}) // over one that is done
	eventually(t, "the third", func() bool { return len(w.effects(t, 1)) == 2 })
	if got := w.effects(t, 1); !slices.Equal(got, []string{"second", "third"}) {
		t.Errorf("got %q", got)
	}
}

// A job that is replaced after its claim is not done by the one who claimed it.
func TestAReplacedJobIsNotDone(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	r := w.runner(t, quick(), noting)
	var once atomic.Bool
	r.hook = func(step string) error {
		if step == "claimed" && once.CompareAndSwap(false, true) {
			return w.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
				_, err := Enqueue(ctx, tx, New{Kind: kind, Key: "k", Payload: "new"})
				return err
			})
		}
		return nil
	}
	w.enqueue(t, 1, New{Kind: kind, Key: "k", Payload: "old"})
	start(t, r)
	eventually(t, "the new one", func() bool { return slices.Equal(w.states(t, 1), []string{"done"}) })
	if got := w.effects(t, 1); !slices.Equal(got, []string{"new"}) {
		t.Errorf("got %q", got)
	}
}

func TestFailuresAreRetriedAndThenGivenUp(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(context.Context, *store.Tx) error{
		"error": func(context.Context, *store.Tx) error { return errBoom },
		"panic": func(context.Context, *store.Tx) error { panic("boom") },
		"sql": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `SELECT 1/0 AS boom`)
			return err
		},
		"hidden": func(ctx context.Context, tx *store.Tx) error {
			_, _ = tx.Exec(ctx, `SELECT boom`)
			return nil // the transaction is broken all the same
		},
		"a statement that takes too long": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, `SET LOCAL statement_timeout = '1ms'`)
			if err == nil {
				_, err = tx.Exec(ctx, `SELECT pg_sleep(10)`)
			}
			return err
		},
		"queued": func(_ context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT 1/0 AS boom`)
			return nil
		},
		"queued argument": func(_ context.Context, tx *store.Tx) error {
			tx.Queue(`SELECT $1::int4`, int64(1)<<40) // refused by the driver, before it is sent
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			w.admit(t, 1)
			var tries atomic.Int32
			start(t, w.runner(t, quick(), noting, Kind{Name: "test.fail", Handle: func(ctx context.Context, tx *store.Tx, j Job) error {
				if err := effect(ctx, tx, j); err != nil {
					return err
				}
				if tries.Add(1) != int32(j.Attempt) {
					t.Errorf("attempt %d calls itself %d", tries.Load(), j.Attempt)
				}
				return do(ctx, tx)
			}}))
			w.enqueue(t, 1, New{Kind: "test.fail", Payload: "never", Attempts: 3})
			eventually(t, "giving up", func() bool { return slices.Equal(w.states(t, 1), []string{"dead"}) })
			w.enqueue(t, 1, New{Kind: kind, Payload: "next"})
			eventually(t, "the next job", func() bool { return slices.Equal(w.effects(t, 1), []string{"next"}) })
			if tries.Load() != 3 {
				t.Errorf("got %d attempts, want 3", tries.Load())
			}
			if text := w.strings(t, `SELECT error FROM cell.job WHERE kind = 'test.fail'`); text[0] == "" {
				t.Error("no error is kept")
			}
		})
	}
}

// TestAJobThatWasGivenUpIsStartedAgain as docs/OPERATIONS.md has it.
func TestAJobThatWasGivenUpIsStartedAgain(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "### A job that was given up\n")
	_, after, _ = strings.Cut(after, "```sql\n")
	sql, _, _ := strings.Cut(after, "```")
	w := open(t)
	w.admit(t, 17)
	var mended atomic.Bool
	start(t, w.runner(t, quick(), Kind{Name: "projects.task_due", Handle: func(ctx context.Context, tx *store.Tx, j Job) error {
		if !mended.Load() {
			return errBoom
		}
		return effect(ctx, tx, j)
	}}))
	w.enqueue(t, 17, New{Kind: "projects.task_due", Payload: "a", Attempts: 2})
	eventually(t, "giving up", func() bool { return slices.Equal(w.states(t, 17), []string{"dead"}) })
	mended.Store(true)
	if _, err := w.owner.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	eventually(t, "its effect", func() bool { return slices.Equal(w.effects(t, 17), []string{"a"}) })
}

// A job that meets a fault that is not its own rests without an attempt, while the
// tenant's other jobs go on, and is seen to be late.
func TestAJobThatMeetsAFaultRests(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	var tries atomic.Int32
	o := quick()
	o.Backoff, o.MaxBackoff = time.Hour, time.Hour
	r := w.runner(t, o, noting, Kind{Name: "test.meets", Handle: func(context.Context, *store.Tx, Job) error {
		tries.Add(1)
		return problem.New(problem.Unavailable, "the cell's redis does not answer")
	}})
	w.enqueue(t, 1, New{Kind: "test.meets", Payload: "first", Attempts: 1})
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error { // an hour ago
		_, err := tx.Exec(ctx, `UPDATE cell.job SET due_at = due_at - interval '1 hour', run_at = run_at - interval '1 hour' WHERE tenant_id = 1`)
		return err
	})
	w.enqueue(t, 1, New{Kind: kind, Payload: "second"})
	start(t, r)
	eventually(t, "the second", func() bool { return slices.Equal(w.effects(t, 1), []string{"second"}) })
	eventually(t, "the first rests", func() bool {
		return slices.Equal(w.strings(t, `SELECT state || attempt FROM cell.job WHERE kind = 'test.meets' AND run_at > now()`), []string{"available0"})
	})
	if tries.Load() != 1 {
		t.Errorf("it was tried %d times, want once", tries.Load())
	}
	if err := r.observeOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if due, oldest := testutil.ToFloat64(r.metrics.due), testutil.ToFloat64(r.metrics.oldest); due != 1 || oldest < 3600 {
		t.Errorf("%v jobs are due, the oldest for %v s; want the one that rests", due, oldest)
	}
}

// What is asked for when its time is over long since waits from then on: how late the
// cell's jobs are is not the tenants' to say.
func TestAJobIsLateFromWhenItWasAskedFor(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	r := w.runner(t, quick(), Kind{Name: kind, Handle: func(_ context.Context, _ *store.Tx, j Job) error {
		if time.Since(j.Due) > time.Hour {
			t.Errorf("it was due at %v", j.Due)
		}
		return nil
	}})
	w.enqueue(t, 1, New{Kind: kind, At: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err := r.observeOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if due, oldest := testutil.ToFloat64(r.metrics.due), testutil.ToFloat64(r.metrics.oldest); due != 1 || oldest > 3600 {
		t.Errorf("%v jobs are due, the oldest for %v s", due, oldest)
	}
	j, err := r.claim(t.Context(), 1, 1)
	if err != nil || j == nil || j.waited > time.Hour {
		t.Fatalf("claimed %+v, %v", j, err)
	}
	if err := r.do(t.Context(), 1, 1, *j); err != nil {
		t.Error(err)
	}
}

// TestAnOutageIsNoAttempt: the database goes away between the claim of a last attempt and its
// work, so that the worker cannot give the claim back. It does when the database is there again.
func TestAnOutageIsNoAttempt(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a", Attempts: 1})
	var log buffer
	o := quick()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	r := w.runner(t, o, noting)
	claimed, gone := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(gone) })
	defer release()
	once := sync.OnceFunc(func() {
		close(claimed)
		<-gone
	})
	r.hook = func(step string) error {
		if step == "claimed" {
			once()
		}
		return nil
	}
	start(t, r)
	<-claimed
	app := "app" + w.owner.Config().Database
	w.strings(t, `ALTER ROLE `+app+` CONNECTION LIMIT 0`)
	w.strings(t, `SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE usename = $1::text`, app)
	release()
	eventually(t, "a claim that cannot be given back", func() bool { return strings.Contains(log.String(), "record outcome of job") })
	w.strings(t, `ALTER ROLE `+app+` CONNECTION LIMIT -1`)
	eventually(t, "the end of the job", func() bool { return slices.Equal(w.states(t, 1), []string{"done"}) })
	if got := w.effects(t, 1); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q, want its effect once", got)
	}
}

// A buffer may be written while the test reads it.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestAKindThatTheWorkerDoesNotKnowIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	start(t, w.runner(t, quick(), noting))
	w.enqueue(t, 1, New{Kind: "test.future", Payload: "x"})
	w.enqueue(t, 1, New{Kind: kind, Payload: "known"})
	eventually(t, "the known one", func() bool { return len(w.effects(t, 1)) == 1 })
	start(t, w.runner(t, quick(), Kind{Name: "test.future", Handle: effect}))
	eventually(t, "the other", func() bool { return len(w.effects(t, 1)) == 2 })
}

// A worker that hangs loses its claim; what it does after that has no effect.
func TestALapsedClaimIsTakenOver(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a"})
	o := quick()
	o.Claim = 50 * time.Millisecond
	slow := w.runner(t, o, noting)
	claimed, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	slow.o.Parallel = 1
	slow.hook = func(step string) error {
		if step == "claimed" && once.CompareAndSwap(false, true) {
			close(claimed)
			<-goOn
		}
		return nil
	}
	start(t, slow)
	<-claimed
	start(t, w.runner(t, quick(), noting))
	eventually(t, "another one does it", func() bool { return slices.Equal(w.states(t, 1), []string{"done"}) })
	close(goOn)
	w.enqueue(t, 1, New{Kind: kind, Payload: "b"})
	eventually(t, "the next", func() bool { return len(w.effects(t, 1)) == 2 })
	if got := w.strings(t, `SELECT attempt::text FROM fx.log ORDER BY n`); got[0] != "2" {
		t.Errorf("done by attempt %s, want 2", got[0])
	}
}

// A claim of an older epoch is void at once, and is no reason to give up.
func TestAClaimOfAnOlderEpochIsVoid(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.claimOfBefore(t, 1)
	start(t, w.runner(t, quick(), noting))
	eventually(t, "it is done at the new epoch", func() bool { return slices.Equal(w.states(t, 1), []string{"done"}) })
	if got := w.strings(t, `SELECT what || attempt FROM fx.log`); !slices.Equal(got, []string{"a2"}) {
		t.Errorf("got %q", got)
	}
}

// standStill freezes the tenant and waits until nobody works for it.
func (w *world) standStill(t *testing.T, tenant directory.TenantID, e, want directory.Epoch) {
	t.Helper()
	f, err := fence.Freeze(t.Context(), w.store.DB(), tenant, e, "test", 10*time.Second)
	if err != nil || f.Epoch != want {
		t.Fatalf("freeze: %+v, %v", f, err)
	}
}

// A process that is told to stop frees what it had claimed, without an attempt.
func TestAStopFreesTheClaim(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a", Attempts: 1})
	inside := make(chan struct{})
	stop := start(t, w.runner(t, quick(), Kind{Name: kind, Handle: func(ctx context.Context, tx *store.Tx, j Job) error {
		close(inside)
		<-ctx.Done()
		return ctx.Err()
	}}))
	<-inside
	stop()
	if got := w.strings(t, `SELECT state || attempt FROM cell.job`); !slices.Equal(got, []string{"available0"}) {
		t.Errorf("got %q", got)
	}
}

// The same where it is told so while the claim is on its way.
func TestAStopInTheMiddleOfAClaimFreesIt(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a", Attempts: 1})
	lock, err := w.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `LOCK TABLE cell.job IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.runner(t, quick(), noting).Run(ctx) }()
	for waiting := 0; waiting == 0; {
		if err := lock.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE relation = 'cell.job'::regclass AND NOT granted`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := lock.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := w.strings(t, `SELECT state || attempt FROM cell.job`); !slices.Equal(got, []string{"available0"}) {
		t.Errorf("got %q", got)
	}
}

// One tenant with many jobs does not keep the others waiting.
func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1, 2)
	for range 50 {
		w.enqueue(t, 1, New{Kind: kind, Payload: "many"})
	}
	w.enqueue(t, 2, New{Kind: kind, Payload: "one"})
	o := quick()
	o.Parallel = 1
	start(t, w.runner(t, o, noting))
	eventually(t, "all jobs", func() bool { return len(w.effects(t, 1)) == 50 && len(w.effects(t, 2)) == 1 })
	// fx.log numbers the effects of all tenants: the one was not the last.
	if n := w.strings(t, `SELECT (SELECT count(*) FROM fx.log l WHERE l.n < o.n)::text FROM fx.log o WHERE tenant_id = 2`); len(n[0]) > 1 {
		t.Errorf("%s jobs of another tenant came first", n[0])
	}
}

func TestOldJobsAreRemoved(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a"})
	w.enqueue(t, 1, New{Kind: kind, Payload: "b", At: time.Now().Add(time.Hour)})
	r := w.runner(t, quick(), noting)
	if more, err := r.turn(t.Context(), 1, 1); !more || err != nil {
		t.Fatalf("turn: %v, %v", more, err)
	}
	if n, err := r.retainOnce(t.Context()); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	r.o.Keep = time.Nanosecond
	if n, err := r.retainOnce(t.Context()); n != 1 || err != nil {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
	if got := w.states(t, 1); !slices.Equal(got, []string{"available"}) {
		t.Errorf("left: %q", got)
	}
	const many = retainBatch*2 + 1 // of one tenant, in one round: they may come faster than a batch a round goes
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO cell.job (tenant_id, id, kind, payload, state, max_attempts, due_at, run_at, ended_at)
			SELECT 1, gen_random_uuid(), $1, '{}', 'done', 1, now(), now(), now() FROM generate_series(1, $2)`, kind, many)
		return err
	})
	if n, err := r.retainOnce(t.Context()); n != many || err != nil {
		t.Errorf("removed %d, %v; want %d", n, err, many)
	}
}

func TestKindsAreChecked(t *testing.T) {
	t.Parallel()
	for want, kinds := range map[string][]Kind{
		"twice":      {noting, noting},
		"a function": {{Name: kind}},
		"matches":    {{Name: "Test", Handle: effect}},
	} {
		if _, err := NewRunner(nil, kinds, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
