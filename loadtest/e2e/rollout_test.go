package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// A front is one router with the tenants of all cells at work on it.
type front struct {
	id           string
	served, fail atomic.Int64
	first        atomic.Pointer[string] // what failed first
	tenants      []*loadtest.Tenant
}

// fronts are the routers of the stack and two more, with a tenant of each cell.
func (w *world) fronts(t *testing.T) []*front {
	t.Helper()
	tenants := []*loadtest.Tenant{w.tenant(t, w.cell(1)), w.tenant(t, w.cell(2)), w.tenant(t, w.cell(3))}
	var all []*front
	add := func(id string, ep *loadtest.Endpoint) {
		f := &front{id: id}
		for _, one := range tenants {
			of := loadtest.Adopt(ep, &loadtest.Recorder{}, one.Tenant, one.Token, loadtest.Plan{})
			if err := of.AwaitRoute(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			f.tenants = append(f.tenants, of)
		}
		all = append(all, f)
	}
	for _, r := range w.State().Routers {
		ep := loadtest.NewEndpoint(r.URL)
		t.Cleanup(ep.Close)
		add(r.ID, ep)
	}
	for i := range 2 {
		e := w.newEdge(t, w.State().Directory.URL, filepath.Join(t.TempDir(), "table"), fmt.Sprintf("ROUTER_ID=staged-%d", i)).start()
		add(fmt.Sprintf("staged-%d", i), e.ep)
	}
	// Routers of earlier stories are dead, and the directory must know it.
	until(t, "the directory to know who is alive", func() bool {
		var mark directory.Watermark
		w.operator(t, http.MethodGet, "/v1/routers", nil, &mark)
		live := 0
		for _, r := range mark.Routers {
			if r.Live {
				live++
			}
		}
		return live == len(all)
	})
	return all
}

// work lets every tenant ask through the router until ctx ends.
func (f *front) work(ctx context.Context, wg *sync.WaitGroup) {
	for _, tenant := range f.tenants {
		wg.Go(func() {
			every := time.NewTicker(10 * time.Millisecond)
			defer every.Stop()
			for {
				a, err := tenant.Do(ctx, loadtest.Request{Path: "/v1/projects?limit=1"})
				if ctx.Err() != nil {
					return
				}
				f.served.Add(1)
				if err != nil || a.Status != http.StatusOK {
					said := fmt.Sprintf("%s: %v %s", tenant.Slug, err, a)
					f.first.CompareAndSwap(nil, &said)
					f.fail.Add(1)
				}
				<-every.C
			}
		})
	}
}

func (w *world) rollOut(t *testing.T, changes []directory.RolloutChange) directory.Rollout {
	t.Helper()
	requests := int64(20)
	var r directory.Rollout
	w.operator(t, http.MethodPost, "/v1/rollouts", directory.NewRollout{Why: t.Name(), Changes: changes, Soak: time.Second, Requests: &requests}, &r)
	return r
}

// ended waits until the roll-out does not go on any more.
func (w *world) ended(t *testing.T, r directory.Rollout) directory.Rollout {
	t.Helper()
	until(t, "the roll-out to end", func() bool {
		w.operator(t, http.MethodGet, "/v1/rollouts/"+string(r.ID), nil, &r)
		return r.State != directory.RolloutRunning
	})
	return r
}

func (w *world) version(t *testing.T) directory.Version {
	t.Helper()
	var mark directory.Watermark
	w.operator(t, http.MethodGet, "/v1/routers", nil, &mark)
	return mark.Version
}

func (w *world) address(t *testing.T, cell directory.CellID) string {
	t.Helper()
	var c directory.Cell
	w.operator(t, http.MethodGet, "/v1/cells/"+string(cell), nil, &c)
	return c.Address
}

// TestF17APoisonedRolloutHaltsAtTheCanary: first a good change of a cell's address
// reaches every router and the record, and no request notices. Then a change that is
// valid and wrong, all cells at one cell's address, reaches one router: the cell
// refuses whom it does not know, the roll-out halts, that router is back with the
// record, which never changed, and nobody else has noticed.
func TestF17APoisonedRolloutHaltsAtTheCanary(t *testing.T) {
	w := rough.alone(t)
	fronts := w.fronts(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for _, f := range fronts {
		f.work(ctx, &wg)
	}

	c1 := w.address(t, w.cell(1))
	moved := strings.Replace(c1, "127.0.0.1", "localhost", 1)
	good := w.ended(t, w.rollOut(t, []directory.RolloutChange{{Cell: w.cell(1), Address: moved}}))
	if good.State != directory.RolloutDone || w.address(t, w.cell(1)) != moved {
		t.Fatalf("a good change: got %s (%s), c1 at %s", good.State, good.Reason, w.address(t, w.cell(1)))
	}
	for _, f := range fronts {
		if n := f.fail.Load(); n != 0 {
			t.Errorf("%s: %d of %d requests failed under a good change, first %s", f.id, n, f.served.Load(), *f.first.Load())
		}
	}

	version := w.version(t)
	bad := w.ended(t, w.rollOut(t, []directory.RolloutChange{{Cell: w.cell(2), Address: moved}, {Cell: w.cell(3), Address: moved}}))
	if bad.State != directory.RolloutHalted || bad.Wave != directory.Canary || len(bad.Routers) != 1 || !strings.Contains(bad.Reason, "requests failed") {
		t.Fatalf("a poisoned change: got %s in wave %s of %v (%s)", bad.State, bad.Wave, bad.Routers, bad.Reason)
	}
	if got := w.version(t); got != version {
		t.Errorf("the record is at version %d, want still %d", got, version)
	}
	for _, f := range fronts {
		if canary := f.id == bad.Routers[0]; canary != (f.fail.Load() > 0) {
			t.Errorf("%s (canary: %v): %d of %d requests failed", f.id, canary, f.fail.Load(), f.served.Load())
		}
		if f.id != bad.Routers[0] {
			continue
		}
		until(t, "the canary to serve the record again", func() bool {
			for _, tenant := range f.tenants {
				if ask(t, tenant, loadtest.Request{Path: "/v1/projects?limit=1"}).Status != http.StatusOK {
					return false
				}
			}
			return true
		})
		t.Logf("%s: %d of %d requests failed, first %s; it served the record %v after the halt", f.id, f.fail.Load(), f.served.Load(), *f.first.Load(), time.Since(bad.Changed).Round(time.Millisecond))
	}
	w.operator(t, http.MethodPost, "/v1/rollouts/"+string(bad.ID)+"/wish", map[string]string{"wish": "abort"}, nil)
}
