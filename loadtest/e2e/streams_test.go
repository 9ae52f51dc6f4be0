package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// streamsGone bounds how long a cell may have streams of a tenant that left it.
const streamsGone = 15 * time.Second

// openStreams is how many streams a cell's API says are open.
func (w *world) openStreams(t *testing.T, cell directory.CellID) int {
	t.Helper()
	for _, c := range w.State().Cells {
		if directory.CellID(c.ID) == cell {
			m, err := loadtest.Scrape(within(t, patience), c.Admin)
			if err != nil {
				t.Fatal(err)
			}
			return int(m.Sum("cell_streams_open"))
		}
	}
	t.Fatalf("no cell %s", cell)
	return 0
}

// TestStreamsFollowTheirTenant: clients listen to what happens to a tenant while
// it works and moves there and back. No stream is left on the old cell, the clients
// come back by themselves, and each sees everything once and in order.
func TestStreamsFollowTheirTenant(t *testing.T) {
	w := rough.alone(t)
	from, to := w.cell(1), w.cell(2)
	c := w.work(t, 1, from)
	tenant := c.tenants[0]

	const listeners = 6
	ctx, cancel := context.WithCancel(within(t, 5*patience))
	defer cancel()
	var followers []*loadtest.Follower
	var seen [listeners]atomic.Int64
	var running sync.WaitGroup
	for i := range listeners {
		f := tenant.Follow(i%2 + 1)
		followers = append(followers, f)
		running.Go(func() {
			if err := f.Run(ctx, func(e loadtest.Event) { seen[i].Store(e.Seq) }); err != nil {
				t.Error(err)
			}
		})
	}
	all := func(what string, upto int64) {
		t.Helper()
		until(t, what, func() bool {
			for i := range seen {
				if seen[i].Load() < upto {
					return false
				}
			}
			return true
		})
	}
	all("the listeners to hear", 20)
	for _, hop := range [][2]directory.CellID{{from, to}, {to, from}} {
		if n := w.openStreams(t, hop[0]); n != listeners {
			t.Fatalf("%s has %d streams, want %d", hop[0], n, listeners)
		}
		m := w.move(t, directory.NewMove{Tenant: tenant.ID, Target: hop[1]})
		wantPhase(t, m, directory.Watching)
		moved := time.Now()
		until(t, fmt.Sprintf("%s to have no stream left", hop[0]), func() bool { return w.openStreams(t, hop[0]) == 0 })
		if took := time.Since(moved); took > streamsGone {
			t.Errorf("%s had streams for %v", hop[0], took)
		} else {
			t.Logf("%s had no stream left after %v", hop[0], took)
		}
		until(t, "the listeners to come back", func() bool { return w.openStreams(t, hop[1]) == listeners })
		all("the listeners to hear of the work at "+string(hop[1]), events(t, tenant))
		w.complete(t, m)
	}
	c.rest(t)
	all("the listeners to hear everything", events(t, tenant))
	cancel()
	running.Wait()
	for i, f := range followers {
		if f.Connected != 3 || len(f.Refused) > 0 {
			t.Errorf("listener %d connected %d times, want 3; refused: %q", i, f.Connected, f.Refused)
		}
	}
}
