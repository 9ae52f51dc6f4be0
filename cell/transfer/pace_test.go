package transfer_test

import (
	"bytes"
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/transfer"
)

// metric reads what operators see of a pace.
func metric(t *testing.T, p *transfer.Pace, name string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	p.Register(reg)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() == name {
			return m.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// limit is what moves may take.
func limit(t *testing.T, p *transfer.Pace) float64 {
	t.Helper()
	return metric(t, p, "move_pace_bytes_per_second")
}

// ticking runs a pace until stop. Each tick a hundred requests take so long, and so many bytes
// move; it returns what moves may take then.
func ticking(t *testing.T, o transfer.PaceOptions) (p *transfer.Pace, tick func(took time.Duration, moved int) float64, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	p = transfer.NewPace(o)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	tick = func(took time.Duration, moved int) float64 {
		for range 100 {
			p.Observe(took)
		}
		for moved > 0 {
			n := min(moved, 64<<10)
			must(t, p.Take(ctx, 1, n))
			moved -= n
		}
		time.Sleep(250 * time.Millisecond) // virtual: one tick
		synctest.Wait()
		return limit(t, p)
	}
	return p, tick, func() { cancel(); <-done }
}

// TestPaceGivesWay: moves take less while the tenants' requests are slow, never
// nothing, and get it back when they are quick again; requests that are slow
// while nothing moves are not the moves' fault.
func TestPaceGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, tick, stop := ticking(t, transfer.PaceOptions{Latency: 40 * time.Millisecond})
		defer stop()
		if got := tick(time.Second, 0); !math.IsInf(got, 1) {
			t.Errorf("slow requests and no move: got %v", got)
		}
		for range 40 { // what is normal is learned anew
			tick(10*time.Millisecond, 0)
		}
		if got := tick(10*time.Millisecond, 64<<20); !math.IsInf(got, 1) {
			t.Errorf("quick requests and a move: got %v", got)
		}
		if got, want := tick(300*time.Millisecond, 64<<20), float64(128<<20); got != want {
			t.Errorf("slow requests and a move at 256 MiB/s: got %v, want half of it, %v", got, want)
		}
		if got := tick(300*time.Millisecond, 16<<20); got >= 128<<20 {
			t.Errorf("still slow: got %v", got)
		}
		for range 40 {
			tick(300*time.Millisecond, 1<<10)
		}
		if got := limit(t, p); got <= 0 || got > 1<<20 {
			t.Errorf("slow for long: got %v, want little and not nothing", got)
		}
		for range 200 {
			tick(10*time.Millisecond, 1<<10)
		}
		if got := limit(t, p); !math.IsInf(got, 1) {
			t.Errorf("quick again for long: got %v, want no bound", got)
		}
	})
}

// TestSeveralMovesGiveWaySooner: what one move may make of the tenants' p99, several that
// go on side by side may not.
func TestSeveralMovesGiveWaySooner(t *testing.T) {
	t.Parallel()
	for moves, gives := range map[int]bool{1: false, 2: true} {
		synctest.Test(t, func(t *testing.T) {
			p, tick, stop := ticking(t, transfer.PaceOptions{Latency: 40 * time.Millisecond})
			defer stop()
			for range 40 {
				tick(10*time.Millisecond, 0)
			}
			for range moves {
				defer p.Begin()()
			}
			if got := !math.IsInf(tick(20*time.Millisecond, 64<<10), 1); got != gives {
				t.Errorf("%d moves and twice the p99: gives way %v, want %v", moves, got, gives)
			}
		})
	}
}

// TestOneMoveIsSoonItself: what one move, or one undo, gave away while requests were slow,
// it has back soon after; several get it back bit by bit, since they may be why.
func TestOneMoveIsSoonItself(t *testing.T) {
	t.Parallel()
	for moves, soon := range map[int]bool{1: true, 2: false} {
		synctest.Test(t, func(t *testing.T) {
			p, tick, stop := ticking(t, transfer.PaceOptions{})
			defer stop()
			for range 40 {
				tick(3*time.Millisecond, 0)
			}
			for range moves {
				defer p.Begin()()
			}
			for range 8 {
				tick(50*time.Millisecond, 1<<10)
			}
			if got := limit(t, p); got > 1<<20 {
				t.Fatalf("slow for two seconds: got %v", got)
			}
			for range 10 {
				tick(3*time.Millisecond, 64<<10)
			}
			if got := limit(t, p) > 8<<20; got != soon {
				t.Errorf("%d moves, quick again for two and a half seconds: %v bytes/s, want more than 8 MiB: %v", moves, limit(t, p), soon)
			}
		})
	}
}

// TestOneSlowRequestIsNoReason: of a cell's few requests the slowest alone is no p99.
func TestOneSlowRequestIsNoReason(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		slow, moves int
		gives       bool
	}{{1, 1, false}, {2, 1, true}, {1, 2, true}} {
		synctest.Test(t, func(t *testing.T) {
			p := transfer.NewPace(transfer.PaceOptions{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			defer func() { cancel(); <-done }()
			for range tt.moves {
				defer p.Begin()()
			}
			time.Sleep(1100 * time.Millisecond) // virtual: until it is known how many there are
			must(t, p.Take(ctx, 1, 64<<10))
			for i := range 50 {
				took := 3 * time.Millisecond
				if i < tt.slow {
					took = time.Second
				}
				p.Observe(took)
			}
			time.Sleep(1100 * time.Millisecond) // virtual: the ticks in which so few are waited for
			synctest.Wait()
			if got := !math.IsInf(limit(t, p), 1); got != tt.gives {
				t.Errorf("%d slow requests of 50, %d moves: gives way %v, want %v", tt.slow, tt.moves, got, tt.gives)
			}
		})
	}
}

// TestADrainIsNotHeldForEver: where the tenants' requests stay slow while next to nothing
// moves, because there are more of them now, moves are not the cause and go on.
func TestADrainIsNotHeldForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, tick, stop := ticking(t, transfer.PaceOptions{})
		defer stop()
		for range 40 {
			tick(3*time.Millisecond, 0)
		}
		defer p.Begin()()
		defer p.Begin()()
		for range 20 {
			tick(50*time.Millisecond, 64<<10)
		}
		if got := limit(t, p); got > 1<<20 {
			t.Errorf("slow for five seconds: got %v", got)
		}
		for range 1000 {
			tick(50*time.Millisecond, 64<<10)
		}
		if got := limit(t, p); got < 4<<20 {
			t.Errorf("slow for minutes: got %v", got)
		}
	})
}

// TestPaceBounds: bytes and rows of a second are what was asked for.
func TestPaceBounds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		o     transfer.PaceOptions
		calls int
		rows  int
		size  int
	}{
		"bytes":                   {transfer.PaceOptions{Bytes: 1 << 20}, 64, 1, 64 << 10}, // 4 MiB
		"rows":                    {transfer.PaceOptions{Rows: 1000}, 4000, 1, 10},
		"rows that come together": {transfer.PaceOptions{Rows: 1000}, 2, 2000, 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, began := transfer.NewPace(tt.o), time.Now()
				for range tt.calls {
					if err := p.Take(t.Context(), tt.rows, tt.size); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took < 3*time.Second || took > 5*time.Second { // virtual time; a burst goes first
					t.Errorf("four seconds' worth took %v", took)
				}
			})
		})
	}
}

// TestPauseIsNotPaced: what is sent and received inside a pause waits for no
// pace: with this one it would take a week.
func TestPauseIsNotPaced(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	slow := transfer.NewPace(transfer.PaceOptions{Bytes: 1})
	for range 8 { // the burst is used up
		must(t, slow.Take(t.Context(), 1, 32<<10))
	}
	a.source, b.target = transfer.NewSource(a.mover, slow), transfer.NewTarget(b.mover, slow)
	must(t, b.Reserve(t.Context(), m))
	must(t, a.Arm(t.Context(), m, time.Second))
	must(t, a.Freeze(t.Context(), m, time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var sent bytes.Buffer
	if _, err := a.source.Stream(ctx, &sent, m.ID, m.Tenant, ""); err != nil {
		t.Fatal(err)
	}
	got, err := b.target.Apply(ctx, transfer.Step{Move: m.ID, Tenant: m.Tenant, Epoch: m.Base + 1}, true, &sent)
	if err != nil || got.Totals.Rows == 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
}
