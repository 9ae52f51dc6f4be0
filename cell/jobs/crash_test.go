package jobs

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

const (
	childDatabase = "CELLWAY_TEST_DATABASE_URL"
	childStep     = "CELLWAY_TEST_STEP" // where the child says so and stands still
	childName     = "child"             // of its sessions
)

// child is a runner in a process of its own.
func child() {
	ctx := context.Background()
	s, err := store.Open(ctx, os.Getenv(childDatabase), store.Options{Cell: "c1"})
	if err != nil {
		panic(err)
	}
	o := quick()
	o.Claim = 200 * time.Millisecond
	r, err := NewRunner(s, []Kind{noting}, o)
	if err != nil {
		panic(err)
	}
	r.hook = func(step string) error {
		if step == os.Getenv(childStep) {
			fmt.Println(step)
			select {} // until it is killed
		}
		return nil
	}
	fmt.Println("running")
	_ = r.Run(ctx)
}

// spawn starts this test binary as a child and returns when it has printed line.
func (w *world) spawn(tb testing.TB, step, line string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+w.url, childStep+"="+step, "PGAPPNAME="+childName)
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for in := bufio.NewScanner(out); in.Scan(); {
		if in.Text() == line {
			return cmd
		}
	}
	tb.Fatalf("the child did not get to %q", line)
	return nil
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // SIGKILL
	_ = cmd.Wait()         // says that it was killed
}

// A worker dies by SIGKILL after the claim, within the transaction of the effect,
// or after its commit: the effect is there once.
func TestAWorkerIsKilledBetweenClaimAndEnd(t *testing.T) {
	t.Parallel()
	for step, attempt := range map[string]string{"claimed": "2", "handled": "2", "done": "1"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			w.admit(t, 1)
			w.enqueue(t, 1, New{Kind: kind, Payload: "a"})
			kill(w.spawn(t, step, step))
			// What it asked for last is done also where nobody hears the answer: it would be claimed once more.
			eventually(t, "the child's sessions end", func() bool {
				return len(w.strings(t, `SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = '`+childName+`'`)) == 0
			})
			start(t, w.runner(t, quick(), noting))
			w.enqueue(t, 1, New{Kind: kind, Payload: "b"})
			eventually(t, "both jobs end", func() bool { return slices.Equal(w.states(t, 1), []string{"done", "done"}) })
			got := w.strings(t, `SELECT what || attempt FROM fx.log ORDER BY what`)
			if !slices.Equal(got, []string{"a" + attempt, "b1"}) {
				t.Errorf("got %q, want a by attempt %s and b", got, attempt)
			}
		})
	}
}

// Two workers are killed at random while tenants ask for jobs: each has its
// effect once.
func TestWorkersKilledAtRandom(t *testing.T) {
	t.Parallel()
	w := open(t)
	const tenants, each, kills = 4, 60, 6
	var asking, killing sync.WaitGroup
	for id := directory.TenantID(1); id <= tenants; id++ {
		w.admit(t, id)
		asking.Go(func() {
			for i := range each {
				err := w.store.InTenant(t.Context(), id, 1, func(ctx context.Context, tx *store.Tx) error {
					// A killed worker is an attempt; here nobody gives up for that.
					_, err := Enqueue(ctx, tx, New{Kind: kind, Payload: fmt.Sprintf("%03d", i), Attempts: 100})
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				store.Wait(t.Context(), 10*time.Millisecond)
			}
		})
	}
	for range 2 {
		killing.Go(func() {
			for range kills {
				cmd := w.spawn(t, "", "running")
				store.Wait(t.Context(), time.Duration(50+rand.N(300))*time.Millisecond)
				kill(cmd)
			}
		})
	}
	asking.Wait()
	killing.Wait()
	start(t, w.runner(t, quick(), noting))
	var want []string
	for i := range each {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	for id := directory.TenantID(1); id <= tenants; id++ {
		eventually(t, "all jobs end", func() bool {
			states := w.states(t, id)
			return len(states) == each && !slices.ContainsFunc(states, func(s string) bool { return s != "done" })
		})
		if got := slices.Sorted(slices.Values(w.effects(t, id))); !slices.Equal(got, want) {
			t.Errorf("tenant %d: %d effects: %s", id, len(got), strings.Join(got, " "))
		}
	}
}
