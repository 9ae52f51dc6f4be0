package pool

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
)

func testGate(most int) *gate {
	began := time.Now()
	return newGate(most, 0, time.Second, func() time.Duration { return time.Since(began) })
}

// enter is arrive and, where that takes no place, await, as Pool.Acquire has them.
func (g *gate) enter(ctx context.Context, t directory.TenantID, c class, deadline time.Time) error {
	w, err := g.arrive(t, c, deadline)
	if w == nil {
		return err
	}
	return g.await(ctx, w)
}

func soon() time.Time { return time.Now().Add(time.Minute) }

// TestThoseWhoWriteComeFirst: of what waits, writers are let in first, and take
// the place of readers where there is no room.
func TestThoseWhoWriteComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := testGate(2)
		tenants := directory.TenantID(0) // each request is of one of its own
		enter := func(c class) error {
			tenants++
			return g.enter(t.Context(), tenants, c, soon())
		}
		for range 2 {
			if err := enter(reading); err != nil {
				t.Fatal(err)
			}
		}
		if err := enter(background); err == nil {
			t.Error("background work was let in where there is no place")
		}
		var order []class
		var mu sync.Mutex
		wait := func(c class, want bool) {
			go func() {
				err := enter(c)
				mu.Lock()
				defer mu.Unlock()
				if (err == nil) != want {
					t.Errorf("class %d: got %v", c, err)
				}
				if err == nil {
					order = append(order, c)
				}
			}()
			synctest.Wait()
		}
		wait(reading, false) // outbid below
		wait(reading, false) // readers have half of the queue
		wait(writing, true)
		wait(writing, true)
		wait(writing, false) // the queue is full of writers
		for tenant := range directory.TenantID(2) {
			g.exit(tenant + 1)
			synctest.Wait()
		}
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 2 || g.inside.Load() != 2 || g.waiting.Load() != 0 {
			t.Errorf("let in %v, %d inside, %d waiting", order, g.inside.Load(), g.waiting.Load())
		}
		for _, s := range []struct {
			c   class
			why shedReason
		}{{background, shedFull}, {reading, shedOutbid}, {reading, shedFull}, {writing, shedFull}} {
			if g.shed[s.c][s.why].Load() != 1 {
				t.Errorf("shed %s for %s: got %d, want 1", classNames[s.c], shedNames[s.why], g.shed[s.c][s.why].Load())
			}
		}
	})
}

// TestNobodyWaitsInVain: who will not have its turn in time is told at once, and
// who leaves takes no place along.
func TestNobodyWaitsInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := testGate(1)
		if err := g.enter(t.Context(), 1, writing, soon()); err != nil {
			t.Fatal(err)
		}
		g.mean.Store(int64(2 * time.Second))
		began := time.Now()
		if err := g.enter(t.Context(), 2, writing, soon()); err == nil || time.Since(began) > 0 {
			t.Errorf("answers take 2 s and the wait is bounded by 1 s: got %v after %v", err, time.Since(began))
		}
		g.mean.Store(int64(time.Millisecond))
		if err := g.enter(t.Context(), 2, writing, time.Now().Add(100*time.Millisecond)); err == nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("a deadline in 100 ms: got %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.enter(ctx, 2, writing, soon()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's", err)
		}
		g.exit(1)
		if g.inside.Load() != 0 || g.waiting.Load() != 0 {
			t.Errorf("%d inside, %d waiting, want none", g.inside.Load(), g.waiting.Load())
		}
	})
}

// TestWhoAbandonsItsTurnTakesNothingAlong: neither from the queue nor once it has come.
func TestWhoAbandonsItsTurnTakesNothingAlong(t *testing.T) {
	t.Parallel()
	g := testGate(2)
	arrive := func(tenant directory.TenantID, c class) *Turn {
		w, err := g.arrive(tenant, c, soon())
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if arrive(1, writing) != nil || arrive(2, writing) != nil {
		t.Fatal("two places were free")
	}
	waits, outbid := arrive(3, writing), arrive(4, reading)
	over := arrive(1, writing) // its tenant has its share; so it waits elsewhere
	g.abandon(over)
	g.abandon(waits)
	first, second := arrive(5, writing), arrive(6, writing) // the last one takes the reader's place
	if !outbid.outbid {
		t.Fatal("nobody was outbid")
	}
	g.abandon(outbid)
	g.exit(1)
	<-first.comes
	g.abandon(first)
	<-second.comes
	if err := g.await(t.Context(), second); err != nil {
		t.Error(err)
	}
	g.exit(6)
	g.exit(2)
	if g.inside.Load() != 0 || g.waiting.Load() != 0 || g.shares.over.Load() != 0 {
		t.Errorf("%d inside, %d and %d waiting, want none", g.inside.Load(), g.waiting.Load(), g.shares.over.Load())
	}
	for tenant := range directory.TenantID(7) {
		if n := g.shares.count(tenant); n != 0 {
			t.Errorf("tenant %d has %d places, want none", tenant, n)
		}
	}
}

// TestAGateNeverLetsTooManyIn, nor forgets anybody, whatever the interleaving.
func TestAGateNeverLetsTooManyIn(t *testing.T) {
	t.Parallel()
	const most = 4
	g := testGate(most)
	var inside, worst, served atomic.Int64
	var of [5]atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 500 {
				tenant := directory.TenantID((i + n) % 5)
				if g.enter(t.Context(), tenant, class((i+n)%int(classes)), soon()) != nil {
					continue
				}
				if now := inside.Add(1); now > worst.Load() {
					worst.Store(now)
				}
				if held := of[tenant].Add(1); held > shareOf(most) {
					t.Errorf("tenant %d has %d places of %d", tenant, held, most)
				}
				served.Add(1)
				of[tenant].Add(-1)
				inside.Add(-1)
				g.answered(time.Microsecond)
				g.exit(tenant)
			}
		})
	}
	wg.Wait()
	if worst.Load() > most || g.inside.Load() != 0 || g.waiting.Load() != 0 || served.Load() == 0 {
		t.Errorf("at most %d at once of %d, %d inside, %d waiting in the end", worst.Load(), most, g.inside.Load(), g.waiting.Load())
	}
	for tenant := range of {
		if held := g.shares.count(directory.TenantID(tenant)); held != 0 || g.shares.over.Load() != 0 {
			t.Errorf("tenant %d has %d places, %d of all wait for their share in the end", tenant, held, g.shares.over.Load())
		}
	}
}

func TestAFreeGateCostsNothing(t *testing.T) {
	g := testGate(16)
	ctx, deadline := t.Context(), soon()
	if n := testing.AllocsPerRun(1000, func() {
		_ = g.enter(ctx, 1, writing, deadline)
		g.answered(time.Millisecond)
		g.exit(1)
		if w, err := g.arrive(2, reading, deadline); w == nil && err == nil {
			g.exit(2)
		}
	}); n != 0 {
		t.Errorf("got %v allocations for each request, want none", n)
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, field, value string
		want                 class
	}{
		{"GET", "", "", reading},
		{"HEAD", "", "", reading},
		{"POST", "", "", writing},
		{"DELETE", "Priority", "u=0", writing},
		{"GET", "Accept", "text/event-stream", background},
		{"GET", "Accept", "text/html, */*", reading},
		{"POST", "Priority", "u=7, i", background},
		{"GET", "Priority", "u=0", reading},
	} {
		h := http.Header{}
		h.Set(tt.field, tt.value)
		if got := classOf(tt.method, h.Get("Priority"), h.Get("Accept")); got != tt.want {
			t.Errorf("%s %s: %s: got %s, want %s", tt.method, tt.field, tt.value, classNames[got], classNames[tt.want])
		}
	}
}

func TestTheBudgetOfRepeats(t *testing.T) {
	t.Parallel()
	var b budget
	b.cents.Store(repeatsSaved)
	repeats := 0
	for range 10000 {
		b.earn()
		if b.spend() {
			repeats++
		}
	}
	if repeats > 510 || repeats < 490 || b.refused.Load() != int64(10000-repeats) {
		t.Errorf("got %d repeats of 10000 requests that all asked for one, want about 500", repeats)
	}
}
