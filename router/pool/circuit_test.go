package pool

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
)

// testCircuit is a circuit whose cell is what answer says, and how often it came back.
func testCircuit(t *testing.T, answer func(ctx context.Context) error) (c *circuit, back *atomic.Int64) {
	began, back := time.Now(), &atomic.Int64{}
	c = &circuit{
		clock: func() time.Duration { return time.Since(began) }, probe: func(ctx context.Context, _ string) error { return answer(ctx) }, back: func() { back.Add(1) },
		ctx: t.Context(), running: &sync.WaitGroup{},
	}
	return c, back
}

func TestACircuitFollowsItsCell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		c, back := testCircuit(t, func(context.Context) error {
			if dead.Load() {
				return syscall.ECONNREFUSED
			}
			return nil
		})
		c.suspect("a")
		synctest.Wait()
		if !c.admits("a", 0) || c.opened.Load() != 0 {
			t.Error("a request that failed opened the circuit of a cell that answers")
		}
		dead.Store(true)
		c.suspect("a")
		synctest.Wait()
		if c.admits("a", 0) {
			t.Error("the cell is dead, and requests go to it")
		}
		time.Sleep(time.Second) // of the bubble
		if n := c.probes.Load(); n < 3 || n > 8 {
			t.Errorf("got %d probes in a second, want about 4", n)
		}
		if !c.admits("b", 0) || back.Load() != 1 {
			t.Error("the cell has another address, and nobody tries it")
		}
		time.Sleep(time.Second)
		dead.Store(false)
		time.Sleep(probePause * 2)
		if !c.admits("b", 0) || back.Load() != 2 {
			t.Errorf("the cell is back: came back %d times, want 2", back.Load())
		}
		c.running.Wait()
	})
}

// TestACellThatIsBackGetsASixteenthFirst: it is cold, and everybody who waited comes.
func TestACellThatIsBackGetsASixteenthFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 64
		var dead atomic.Bool
		pools := New(Limits{Requests: most}, func(directory.CellID, Limits) int { return 0 }, func(context.Context, int, string) error {
			if dead.Load() {
				return syscall.ECONNREFUSED
			}
			return nil
		})
		defer pools.Close(func(int) {})
		p := pools.Of("c1")
		p.Failed("a")
		synctest.Wait()
		if got := p.gate.limit.Load(); got == most/16 {
			t.Errorf("a cell that was never away: got a limit of %d", got)
		}
		dead.Store(true)
		p.Failed("a")
		synctest.Wait()
		dead.Store(false)
		time.Sleep(2 * probePause) // of the bubble
		if got := p.gate.limit.Load(); p.circuit.open.Load() || got != most/16 {
			t.Errorf("back: got a limit of %d, want %d", got, most/16)
		}
	})
}

// TestASilentCellIsAsked: a cell with requests under way that says nothing is
// asked, and one that answers the question is only slow.
func TestASilentCellIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hung atomic.Bool
		c, _ := testCircuit(t, func(ctx context.Context) error {
			if hung.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		c.admits("a", 0)
		time.Sleep(2 * suspectAfter)
		c.admits("a", 1)
		synctest.Wait()
		if c.probes.Load() != 1 || !c.admits("a", 1) {
			t.Errorf("slow: got %d probes, want 1 and the circuit closed", c.probes.Load())
		}
		hung.Store(true)
		time.Sleep(2 * suspectAfter)
		c.admits("a", 1)
		time.Sleep(probeTimeout + time.Millisecond)
		if c.admits("a", 1) {
			t.Error("the cell hangs, and requests go to it")
		}
		time.Sleep(2 * forgetAfter)
		if n := c.probes.Load(); n > 40 {
			t.Errorf("got %d probes of a cell that nobody wants", n)
		}
		c.running.Wait() // ends by itself
	})
}

// TestAWayThatHealsIsFoundInTwoSeconds: F22. While nothing comes back from the cell one probe at
// a time asks for it and no request; whenever the way heals, two seconds later requests go again.
func TestAWayThatHealsIsFoundInTwoSeconds(t *testing.T) {
	t.Parallel()
	const pause = 50 * time.Millisecond
	for phase := range 20 {
		synctest.Test(t, func(t *testing.T) {
			var lost atomic.Bool
			var asking, most atomic.Int64
			c, back := testCircuit(t, func(ctx context.Context) error {
				most.Store(max(most.Load(), asking.Add(1)))
				defer asking.Add(-1)
				if !lost.Load() {
					return nil
				}
				<-ctx.Done() // also where the way heals meanwhile: the question is lost
				return ctx.Err()
			})
			lost.Store(true)
			c.suspect("a")
			time.Sleep(probeTimeout + time.Millisecond)
			sent := 0
			for range (time.Minute + time.Duration(phase)*100*time.Millisecond) / pause { // of the bubble
				if c.admits("a", 0) {
					sent++
				}
				time.Sleep(pause)
			}
			probes := c.probes.Load()
			if sent != 0 || probes > 40 || most.Load() != 1 {
				t.Errorf("in a minute: %d requests and %d probes, %d at once", sent, probes, most.Load())
			}
			lost.Store(false)
			time.Sleep(2 * time.Second)
			if n := c.probes.Load() - probes; !c.admits("a", 0) || back.Load() != 1 || n > 1 {
				t.Errorf("healed: open %v, closed %d times, after %d more probes", c.open.Load(), back.Load(), n)
			}
			c.running.Wait()
		})
	}
}

func TestWhatIsOurOwnFaultOpensNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := testCircuit(t, func(context.Context) error { return errors.Join(errors.New("dial"), syscall.EMFILE) })
		c.suspect("a")
		c.running.Wait()
		if !c.admits("a", 0) {
			t.Error("this machine is out of files, and the cell is blamed")
		}
	})
}

// TestAnAddressThatWasLeftOpensNothing: what fails there, before the cell has another
// address or after it, closes the cell at the new one to nobody, and takes nothing of its limit.
func TestAnAddressThatWasLeftOpensNothing(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(p *Pool[int], move func()){
		"after it": func(p *Pool[int], move func()) {
			move()
			p.Failed("dead")
		},
		"and is asked meanwhile": func(p *Pool[int], move func()) {
			p.Failed("dead")
			synctest.Wait()
			move()
		},
		"and its circuit is open": func(p *Pool[int], move func()) {
			p.Failed("dead")
			time.Sleep(probeTimeout + 10*time.Millisecond) // it is open, and the next probe has not begun
			move()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pools := New(Limits{Requests: 512, Least: 64}, func(directory.CellID, Limits) int { return 0 }, func(ctx context.Context, _ int, address string) error {
					if address == "dead" {
						<-ctx.Done()
						return syscall.ETIMEDOUT
					}
					return nil
				})
				defer pools.Close(func(int) {})
				p, r, n := pools.Of("c1"), httptest.NewRequest("GET", "/", nil), directory.TenantID(0)
				ask := func(address string) {
					n++
					if err := p.Acquire(r, n, address, time.Now().Add(time.Minute)); err != nil {
						t.Errorf("request %d, to %s: %v", n, address, err)
					}
				}
				ask("dead")
				var opened, limit int64
				fails(p, func() {
					for range 20 {
						ask("well")
						p.Answered(time.Millisecond, true, true)
					}
					opened, limit = p.circuit.opened.Load(), p.gate.limit.Load()
				})
				for range 80 {
					time.Sleep(100 * time.Millisecond) // of the bubble
					ask("well")
					p.Answered(time.Millisecond, true, true)
					p.Release(n)
				}
				if p.circuit.open.Load() || p.circuit.opened.Load() != opened || p.gate.limit.Load() < limit {
					t.Errorf("open %v, opened %d times (was %d), limit %d (was %d)", p.circuit.open.Load(), p.circuit.opened.Load(), opened, p.gate.limit.Load(), limit)
				}
			})
		})
	}
}
