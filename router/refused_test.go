package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// TestARouterThatRefusesGoesOnPolling: while the guard refuses what changed, the
// router says that it is alive and what it serves, and hears of the end of a roll-out.
func TestARouterThatRefusesGoesOnPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		for _, id := range []directory.CellID{"c1", "c2"} {
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://old-" + string(id), Capacity: 20, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("tenant-", i), Cell: "c1"}); err != nil {
				t.Fatal(err)
			}
		}
		feed := &stagedFeed{Feed: m}
		tab := table.New()
		tab.SetGuard(table.Guard{Share: 0.3, AtMost: 1})
		rt := router.New(router.Options{Chain: &identify.Chain{}, Table: tab, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- rt.Follow(ctx, feed, "r1") }()
		at := func() string {
			e, _ := tab.View().BySlug("tenant-9")
			return e.Address
		}
		p := directory.Part{Rollout: "ro_1", Round: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://new-c1"}}}
		feed.set(p, false)
		time.Sleep(2 * time.Second)
		before := tab.View().Version()

		feed.set(p, true)           // so that the router hears of all of it at once
		time.Sleep(2 * time.Second) // the poll that is under way is over
		for id := directory.TenantID(1); id <= 5; id++ {
			if err := m.Place(t.Context(), directory.Placement{Tenant: id, Cell: "c2", Epoch: 2, State: directory.Active}); err != nil {
				t.Fatal(err)
			}
		}
		feed.set(p, false)
		time.Sleep(time.Minute)
		if refusing, _ := tab.Refusing(); refusing == 0 || tab.View().Version() != before || at() != "http://new-c1" {
			t.Fatalf("refusing %d at version %d, served at %s", refusing, tab.View().Version(), at())
		}
		mark, err := m.Watermark(t.Context())
		if err != nil || len(mark.Routers) != 1 || !mark.Routers[0].Live || mark.Watermark != before {
			t.Errorf("watermark: got %+v, %v, want r1 alive at %d", mark, err, before)
		}
		if age := time.Since(tab.Confirmed()); age > 5*time.Second {
			t.Errorf("the directory, which speaks, was heard %v ago", age)
		}

		feed.set(directory.Part{}, false) // halted
		time.Sleep(5 * time.Second)
		if at() != "http://old-c1" || tab.View().Version() != before {
			t.Errorf("after a halt: %s at version %d, want the record's", at(), tab.View().Version())
		}
		refusing, _ := tab.Refusing()
		tab.Allow(refusing)
		time.Sleep(5 * time.Second)
		if e, _ := tab.View().BySlug("tenant-0"); e.Cell != "c2" {
			t.Errorf("allowed: got %+v", e)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		rt.Close()
	})
}
