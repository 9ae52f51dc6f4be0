package router

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestWhatAFrozenTenantAsksTheDirectory: nothing while the decision may still come by
// itself, and then once, if somebody still waits; about another refusal, at once.
func TestWhatAFrozenTenantAsksTheDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, HoldLimits{Time: 2 * time.Second, Requests: 10, Bytes: 1 << 20})
		var asked atomic.Int64
		background, stop := context.WithCancel(t.Context())
		rt := &Router{holds: h.holds, background: background, stop: stop, Options: Options{
			Hold: h.holds.limits, Log: slog.New(slog.DiscardHandler),
			Refresh: func(context.Context) error { asked.Add(1); return nil },
		}}
		want := func(when string, n int64) {
			t.Helper()
			synctest.Wait()
			if got := asked.Load(); got != n {
				t.Errorf("%s: the directory was asked %d times, want %d", when, got, n)
			}
		}
		e := h.entry(1)
		for _, tt := range []struct {
			state, epoch string
			want         bool
		}{{"frozen", "2", true}, {"frozen", "3", false}, {"moved", "2", false}, {"active", "2", false}} {
			refusal := errors.Join(problem.Stale, problem.New(problem.Stale, "not mine").With("state", tt.state).With("epoch", tt.epoch))
			if got := undecided(refusal, e); got != tt.want {
				t.Errorf("%s at %s is undecided: got %v, want %v", tt.state, tt.epoch, got, tt.want)
			}
		}

		rt.refresh(refreshLater)
		time.Sleep(time.Second)
		want("nobody waits", 0)
		h.start(t.Context(), "one", e, 1)
		rt.refresh(refreshLater)
		rt.refresh(refreshLater)
		time.Sleep(refreshLater - time.Millisecond)
		want("before", 0)
		time.Sleep(2 * time.Millisecond)
		want("after", 1)
		rt.refresh(0)
		want("at once", 2)
		h.place(1, 2, directory.Active)
		rt.refresh(refreshLater)
		rt.Close()
		want("closed", 2)
		h.wg.Wait()
	})
}
