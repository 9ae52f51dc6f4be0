package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

// A holding is a table with tenant 1 in cutover, and who waits for it. Time in
// these tests is synctest's.
type holding struct {
	t     *testing.T
	table *table.Table
	holds *holds
	mu    sync.Mutex
	order []string // how the waits ended, in order
	wg    sync.WaitGroup

	frozen bool // what the cells say that refuse
}

func newHolding(t *testing.T, l HoldLimits) *holding {
	t.Helper()
	h := &holding{t: t, table: table.New()}
	h.holds = newHolds(l, newMetrics(prometheus.NewRegistry(), h.table))
	h.place(1, 1, directory.Cutover)
	h.place(2, 1, directory.Cutover)
	return h
}

func (h *holding) place(tenant, epoch int, s directory.State) {
	h.t.Helper()
	v := h.table.View().Version()
	err := h.table.Apply(directory.Update{Since: v, Version: v + 1, Routes: []directory.Route{{
		Slug:      fmt.Sprintf("t%d", tenant),
		Placement: directory.Placement{Tenant: directory.TenantID(tenant), Cell: "c1", Epoch: directory.Epoch(epoch), State: s},
	}}})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *holding) entry(tenant int) table.Entry {
	e, _ := h.table.View().ByID(directory.TenantID(tenant))
	return e
}

// start holds one request of tenant, called name, and returns when it waits or
// was refused.
func (h *holding) start(ctx context.Context, name string, e table.Entry, cost int64) {
	h.wg.Go(func() {
		got, err := h.holds.wait(ctx, h.table, e, h.frozen, cost)
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case err == nil:
			name += fmt.Sprintf(" released at %d", got.Epoch)
		default:
			name += " " + string(problem.KindOf(err))
		}
		h.order = append(h.order, name)
	})
	synctest.Wait()
}

func (h *holding) ended(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.order, want) {
		h.t.Errorf("got %q, want %q", h.order, want)
	}
}

var plenty = HoldLimits{Time: 2 * time.Second, Requests: 100, Bytes: 1 << 20}

func TestHoldReleasesInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		var want []string
		for i := range 20 {
			name := fmt.Sprintf("r%02d", i)
			h.start(t.Context(), name, h.entry(1), 1)
			want = append(want, name+" released at 2")
		}
		h.place(2, 2, directory.Active) // another tenant's change releases nobody
		h.ended()
		h.place(1, 2, directory.Active)
		h.ended(want...)
		if h.holds.all != (load{}) || h.holds.told != (load{}) {
			t.Errorf("%+v, of them %+v told by cells, are left", h.holds.all, h.holds.told)
		}
	})
}

func TestHoldMissesNoTableThatCameBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		old := h.entry(1)
		h.place(1, 2, directory.Active)
		h.start(t.Context(), "late", old, 1)
		h.ended("late released at 2")
	})
}

func TestHoldIsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		began := time.Now()
		h.start(t.Context(), "first", h.entry(1), 1)
		time.Sleep(1500 * time.Millisecond) // synctest's time
		h.start(t.Context(), "second", h.entry(1), 1)
		h.wg.Wait()
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("held for %v, want one window of 2s for both", d)
		}
		h.start(t.Context(), "after", h.entry(1), 1) // the window is not opened again
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("held again, until %v", d)
		}
		if n := len(h.order); n != 3 {
			t.Fatalf("got %q", h.order)
		}
		for _, o := range h.order {
			if o[len(o)-len("tenant-moving"):] != "tenant-moving" {
				t.Errorf("got %q, want tenant-moving", o)
			}
		}
		h.place(1, 2, directory.Cutover) // another epoch is another window
		h.start(t.Context(), "next", h.entry(1), 1)
		h.place(1, 3, directory.Active)
		h.wg.Wait()
		if got := h.order[3]; got != "next released at 3" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHoldIsBoundedInNumberAndBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, HoldLimits{Time: time.Second, Requests: 4, Bytes: 100})
		h.start(t.Context(), "a1", h.entry(1), 10)
		h.start(t.Context(), "a2", h.entry(1), 10)
		h.start(t.Context(), "a3", h.entry(1), 10) // over the tenant's half
		h.ended("a3 tenant-moving")
		h.start(t.Context(), "b1", h.entry(2), 81) // over the bytes
		h.ended("a3 tenant-moving", "b1 tenant-moving")
		h.start(t.Context(), "b2", h.entry(2), 80)
		h.start(t.Context(), "b3", h.entry(2), 0)
		h.place(3, 1, directory.Cutover)
		h.start(t.Context(), "c1", h.entry(3), 0) // over the number
		h.ended("a3 tenant-moving", "b1 tenant-moving", "c1 tenant-moving")
		h.place(1, 2, directory.Active)
		h.place(2, 2, directory.Active)
		h.wg.Wait()
	})
}

// TestACellThatRefusesAllLeavesRoomForCutovers: what is held on a cell's word alone
// has a quarter of the places and of the bytes, and who moves has the others.
func TestACellThatRefusesAllLeavesRoomForCutovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, HoldLimits{Time: time.Second, Requests: 12, Bytes: 100})
		for tenant := 3; tenant < 8; tenant++ {
			h.place(tenant, 1, directory.Active)
		}
		h.start(t.Context(), "bytes", h.entry(3), 26) // over the quarter
		h.start(t.Context(), "told3", h.entry(3), 1)
		h.start(t.Context(), "told4", h.entry(4), 20)
		h.start(t.Context(), "bytes", h.entry(5), 5)
		h.start(t.Context(), "told5", h.entry(5), 1)
		h.start(t.Context(), "number", h.entry(6), 1)
		h.ended("bytes tenant-moving", "bytes tenant-moving", "number tenant-moving")
		h.start(t.Context(), "cutover", h.entry(1), 30)
		h.frozen = true
		h.start(t.Context(), "frozen", h.entry(7), 30)
		h.frozen = false
		h.start(t.Context(), "behind it", h.entry(7), 10) // without having asked the cell
		h.ended("bytes tenant-moving", "bytes tenant-moving", "number tenant-moving")
		for tenant := 3; tenant < 8; tenant++ {
			h.place(tenant, 2, directory.Active)
			synctest.Wait()
		}
		h.place(1, 2, directory.Active)
		h.wg.Wait()
		h.ended("bytes tenant-moving", "bytes tenant-moving", "number tenant-moving", "told3 released at 2", "told4 released at 2",
			"told5 released at 2", "frozen released at 2", "behind it released at 2", "cutover released at 2")
		if h.holds.all != (load{}) || h.holds.told != (load{}) {
			t.Errorf("%+v, of them %+v told by cells, are left", h.holds.all, h.holds.told)
		}
	})
}

func TestHoldEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		ctx, cancel := context.WithCancel(t.Context())
		h.start(ctx, "gone", h.entry(1), 1)
		h.start(t.Context(), "stays", h.entry(1), 1)
		cancel()
		h.ended("gone tenant-moving")
		h.place(1, 2, directory.Active) // the one behind it has become the first
		h.ended("gone tenant-moving", "stays released at 2")
	})
}

func TestHoldOfATenantThatIsDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		h.start(t.Context(), "r", h.entry(1), 1)
		h.place(1, 2, directory.Deleted)
		h.ended("r released at 2")
		if _, err := verdict(h.entry(1)); !errors.Is(err, problem.TenantNotFound) {
			t.Errorf("got %v, want tenant-not-found", err)
		}
	})
}

func TestAStaleWindowOpensAgainAfterARest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		h.place(1, 2, directory.Active)
		h.start(t.Context(), "first", h.entry(1), 1)
		time.Sleep(5 * time.Second) // synctest's time: the window and its rest
		h.start(t.Context(), "second", h.entry(1), 1)
		h.place(1, 3, directory.Active)
		h.ended("first tenant-moving", "second released at 3")
	})
}

func TestWindowsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		for epoch := 2; epoch < 50; epoch++ {
			h.place(1, epoch, directory.Cutover)
			h.start(t.Context(), "r", h.entry(1), 1)
		}
		h.place(1, 50, directory.Active)
		h.wg.Wait()
		if n := len(h.holds.lines); n > 2 {
			t.Errorf("got %d windows remembered", n)
		}
	})
}

func TestWhoKnowsThatACellRefusesIsAskedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHolding(t, plenty)
		h.place(1, 2, directory.Active)
		if h.holds.waiting(h.entry(1)) {
			t.Error("nobody has been refused")
		}
		h.start(t.Context(), "refused", h.entry(1), 1)
		if !h.holds.waiting(h.entry(1)) || h.holds.waiting(h.entry(2)) {
			t.Error("want tenant 1 known to be refused, and tenant 2 not")
		}
		h.place(1, 3, directory.Active)
		synctest.Wait()
		if h.holds.waiting(h.entry(1)) {
			t.Error("the new placement has refused nobody")
		}
		h.start(t.Context(), "again", h.entry(1), 1)
		time.Sleep(3 * time.Second) // synctest's time: the window is over
		if h.holds.waiting(h.entry(1)) {
			t.Error("a window that is over keeps requests from a cell that may serve by now")
		}
	})
}
