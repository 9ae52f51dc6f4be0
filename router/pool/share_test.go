package pool

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// count is how many the tenant has, or more.
func (s *shares) count(t directory.TenantID) int64 {
	a, b := s.of(t)
	return min(a.Load(), b.Load())
}

// TestATenantHasItsShareOfACell: what it has too many of wait for its own to end, and
// then are told that it is the tenant; others find places.
func TestATenantHasItsShareOfACell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := testGate(512) // begins with 128
		const limit = 128
		const share, rest = 112, limit - 112
		answers := make(chan error, limit)
		for range limit {
			go func() { answers <- g.enter(t.Context(), 1, writing, soon()) }()
		}
		synctest.Wait()
		if in, over := g.inside.Load(), g.shares.over.Load(); in != share || over != rest || g.waiting.Load() != 0 {
			t.Fatalf("%d are in, %d wait for their share, %d for a place", in, over, g.waiting.Load())
		}
		began := time.Now()
		for range share {
			<-answers
		}
		for range rest {
			if err := g.enter(t.Context(), 2, reading, soon()); err != nil || time.Since(began) > 0 {
				t.Fatalf("another tenant: %v after %v", err, time.Since(began))
			}
		}
		g.exit(2) // another's place is not for it
		synctest.Wait()
		if n := len(answers); n != 0 {
			t.Errorf("%d came in over their tenant's share", n)
		}
		g.exit(1)
		synctest.Wait()
		if len(answers) != 1 || g.inside.Load() != limit-1 {
			t.Errorf("one has ended: %d came in, %d are in", len(answers), g.inside.Load())
		}
		<-answers
		if err := g.enter(t.Context(), 1, background, soon()); !errors.Is(err, problem.RateLimited) || time.Since(began) > 0 {
			t.Errorf("in the background: %v after %v", err, time.Since(began))
		}
		for range rest - 1 {
			if err := <-answers; !errors.Is(err, problem.RateLimited) {
				t.Errorf("over the share: %v", err)
			}
		}
		if took := time.Since(began); took != g.wait || g.shed[writing][shedShare].Load() != rest-1 {
			t.Errorf("after %v, %d counted", took, g.shed[writing][shedShare].Load())
		}
	})
}

// TestNobodyIsAnothersNeighbourForSure: whose counters a tenant's are is not to be told
// from its id, and one of them that somebody fills does not keep it out.
func TestNobodyIsAnothersNeighbourForSure(t *testing.T) {
	t.Parallel()
	const victim, limit, share = 7, 64, 56
	for range 20 {
		var s shares
		s.seed()
		for i := range 100 { // as many as there are, each with all that it may have
			other := directory.TenantID(victim + (i+1)*slots)
			for s.take(other, limit) {
			}
			if n := s.count(other); n < share {
				t.Fatalf("tenant %d has %d, want %d at least", other, n, share)
			}
		}
		// By chance both of its counters are filled in one of some 110 runs, and never in all 20.
		if s.take(victim, limit) {
			return
		}
	}
	t.Error("the ids that are a multiple of the counters apart keep a tenant out, whatever the seed")
}

// TestCountersComeBack: what is counted in two rows is given back in both.
func TestCountersComeBack(t *testing.T) {
	t.Parallel()
	var s shares
	s.seed()
	var all sync.WaitGroup
	var most atomic.Int64
	for range 8 {
		all.Go(func() {
			for range 2000 {
				if s.take(7, 5) {
					if n := most.Add(1); n > shareOf(5) {
						t.Errorf("%d at once, want %d at most", n, shareOf(5))
					}
					most.Add(-1)
					s.give(7, 5)
				}
			}
		})
	}
	all.Wait()
	for i := range s.held {
		for slot := range s.held[i] {
			if n := s.held[i][slot].Load(); n != 0 {
				t.Errorf("counter %d of row %d is %d in the end", slot, i, n)
			}
		}
	}
}

// TestTheOnlyTenantHasRoomForItsBurst: it has the queue that it had without shares,
// and the limit grows with what it asks for.
func TestTheOnlyTenantHasRoomForItsBurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := testGate(16)
		answers := make(chan error, 64)
		for range 33 {
			go func() { answers <- g.enter(t.Context(), 1, reading, soon()) }()
		}
		synctest.Wait()
		if n := g.shed[reading][shedShare].Load(); n != 1 || !g.full.Load() {
			t.Errorf("of 33 at once, %d were turned away, want 1; full is %v", n, g.full.Load())
		}
		for range 32 {
			g.exit(1)
			synctest.Wait()
		}
		if g.inside.Load() != 0 || len(answers) != 33 || g.shares.count(1) != 0 {
			t.Errorf("%d inside, %d answers, %d counted", g.inside.Load(), len(answers), g.shares.count(1))
		}
	})
}

// TestACellThatIsSilentIsNotItsTenantsFault: as long as it says nothing, who has its
// share is told what others are told.
func TestACellThatIsSilentIsNotItsTenantsFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pools := New(Limits{Requests: 4}, func(directory.CellID, Limits) int { return 0 }, func(ctx context.Context, _ int, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		defer pools.Close(func(int) {})
		p, r := pools.Of("c1"), httptest.NewRequest("GET", "/", nil)
		ask := func() error { return p.Acquire(r, 1, "a", soon()) }
		if err := errors.Join(ask(), ask(), ask()); err != nil {
			t.Fatal(err)
		}
		p.Answered(time.Millisecond, true, false)
		if err := ask(); !errors.Is(err, problem.RateLimited) {
			t.Errorf("the cell answers: got %v", err)
		}
		time.Sleep(suspectAfter) // of the bubble
		if err := ask(); !errors.Is(err, problem.CellUnavailable) {
			t.Errorf("the cell is silent: got %v", err)
		}
		for range 3 {
			p.Release(1)
		}
	})
}
