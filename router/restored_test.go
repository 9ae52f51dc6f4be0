package router_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

func recordOf20(t *testing.T, address string) *directorytest.Memory {
	m := directorytest.NewMemory()
	for _, c := range []directory.Cell{{ID: "c1", Address: address, Capacity: 100, Incarnation: "db"}, {ID: "c2", Address: "http://c2", Capacity: 100, Incarnation: "db2"}, {ID: "c3", Address: "http://c3", Capacity: 100, Incarnation: "db3"}} {
		if _, err := m.AddCell(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// A polled is a feed that does not ask how its router fares.
type polled struct{ directory.Feed }

// Poll implements router.Feed.
func (f polled) Poll(ctx context.Context, r string, since directory.Version, wait time.Duration, _ directory.Report) (directory.Update, error) {
	return f.Changes(ctx, r, since, wait)
}

// following is the table of a router r1 that follows feed until stop is called.
func following(t *testing.T, feed directory.Feed) (tab *table.Table, stop func()) {
	t.Helper()
	rt := router.New(router.Options{Chain: &identify.Chain{}, Table: table.New(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rt.Follow(ctx, polled{feed}, "r1") }()
	return rt.Table, func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
		rt.Close()
	}
}

// TestACellStaysWhereItIsUntilItIsHeard: a backup has a cell's address of before.
func TestACellStaysWhereItIsUntilItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, before, restored := &swappedFeed{}, recordOf20(t, "http://old"), recordOf20(t, "http://old")
		if _, err := before.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://new", Capacity: 100, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
		feed.at.Store(before)
		tab, stop := following(t, feed)
		defer stop()
		time.Sleep(3 * time.Second)
		version := tab.View().Version()
		restored.Restored()
		feed.at.Store(restored)
		want := func(when, address string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if e, _ := tab.View().ByID(7); e.Address != address || tab.View().Version() <= version {
				t.Errorf("%s: version %d, at %s, want %s", when, tab.View().Version(), e.Address, address)
			}
		}
		want("restored", "http://new")
		if err := restored.Heartbeat(t.Context(), "c1", "db"); !errors.Is(err, problem.NotFound) {
			t.Errorf("heartbeat: got %v, want not found", err)
		}
		for _, address := range []string{"http://newest", "http://old"} {
			if _, err := restored.AddCell(t.Context(), directory.Cell{ID: "c1", Address: address, Capacity: 100, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
			want("the cell says where it is", address)
		}
	})
}

// TestAMovedTenantIsSuspendedAfterARestore: what is suspended, resumed and deleted after
// a restore reaches routers that know of two moves since.
func TestAMovedTenantIsSuspendedAfterARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, before, restored := &swappedFeed{}, recordOf20(t, "http://c1"), recordOf20(t, "http://c1")
		for i, c := range []directory.CellID{"c2", "c3"} {
			if err := before.Place(t.Context(), directory.Placement{Tenant: 7, Cell: c, Epoch: directory.Epoch(i + 2), State: directory.Active}); err != nil {
				t.Fatal(err)
			}
		}
		feed.at.Store(before)
		tab, stop := following(t, feed)
		defer stop()
		time.Sleep(3 * time.Second)
		feed.at.Store(restored)
		time.Sleep(3 * time.Second)
		for _, want := range []directory.State{directory.Suspended, directory.Active} {
			suspended := want == directory.Suspended
			if _, err := restored.UpdateTenant(t.Context(), 7, directory.Change{Suspended: &suspended}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			if e, ok := tab.View().ByID(7); !ok || e.State != want || e.Cell != "c3" || e.Epoch != 3 {
				t.Errorf("%s: got %+v, %v, want it on c3 at 3", want, e, ok)
			}
		}
		if err := restored.DeleteTenant(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if e, ok := tab.View().ByID(7); ok && e.State != directory.Deleted {
			t.Errorf("deleted: got %+v", e)
		}
	})
}

// TestAnOldDatabaseThatAnswers: of two, the one that a failover has left behind.
func TestAnOldDatabaseThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, left, now := &swappedFeed{}, recordOf20(t, "http://c1"), recordOf20(t, "http://c1")
		yes := true
		for _, id := range []directory.TenantID{7, 8} {
			if _, err := now.UpdateTenant(t.Context(), id, directory.Change{Suspended: &yes}); err != nil {
				t.Fatal(err)
			}
		}
		feed.at.Store(now)
		tab, stop := following(t, feed)
		defer stop()
		time.Sleep(3 * time.Second)
		time.Sleep(directory.LiftWithin)
		feed.at.Store(left) // a balancer, a name, a connection
		time.Sleep(time.Minute)
		if e, _ := tab.View().ByID(7); e.State != directory.Suspended {
			t.Errorf("of the old one: version %d: tenant 7 is %s again", tab.View().Version(), e.State)
		}
	})
}
