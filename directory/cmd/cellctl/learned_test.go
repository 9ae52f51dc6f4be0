package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/planner"
)

// TestAForecastGoesByHowMovesWent once there are enough of them, and says so; until then it says that it assumes.
func TestAForecastGoesByHowMovesWent(t *testing.T) {
	t.Parallel()
	d := directorytest.NewMemory()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	d.Now = func() time.Time { return now }
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := d.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 100, Incarnation: "i"}); err != nil {
			t.Fatal(err)
		}
	}
	tenants := 0
	create := func() directory.TenantID {
		t.Helper()
		tenants++
		made, err := d.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprintf("t%d", tenants), Cell: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	went := func(n directory.NewMove, size int64, took time.Duration) {
		t.Helper()
		n.Tenant, n.Target = create(), "c2"
		m, err := d.CreateMove(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute) // it waits its turn
		if m, err = d.LeaseMove(t.Context(), m.ID, "m1", time.Hour); err != nil {
			t.Fatal(err)
		}
		for _, next := range way[1:10] {
			if next == directory.Copied {
				now = now.Add(took)
			}
			from := m.Phase
			m.Phase, m.Report = next, fmt.Appendf(nil, `{"size_bytes":%d}`, size)
			if err := d.Advance(t.Context(), m, from); err != nil {
				t.Fatal(err)
			}
		}
	}
	planned := func() plan {
		t.Helper()
		for _, id := range []directory.CellID{"c1", "c2"} {
			if err := d.Heartbeat(t.Context(), id, "i"); err != nil {
				t.Fatal(err)
			}
		}
		f, err := readFleet(t.Context(), memory{Memory: d}, now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := planner.Drain(f.state(planner.Unlimited, now), "c1", f.expects(planner.Default()))
		if err != nil {
			t.Fatal(err)
		}
		return newPlan("drain", "cell/c1", f, p, func(directory.Move) bool { return false })
	}
	stays := create() // nobody knows its size
	for range enough - 1 {
		went(directory.NewMove{}, 1_000_000, 6*time.Second) // ten times what is assumed
	}
	went(directory.NewMove{StopAt: directory.CaughtUp}, 1_000_000, 24*time.Hour) // its operator was asleep
	p := planned()
	if got, want := p.Forecast.Duration, 500*time.Millisecond; got != want || p.Forecast.TimesMeasured != 0 || !strings.Contains(p.summary(), "one after the other, assumed,") {
		t.Errorf("of too few: got %v of %d, want %v: %s", got, p.Forecast.TimesMeasured, want, p.summary())
	}
	went(directory.NewMove{}, 20_000_000, 25*time.Second)
	p = planned()
	if got, want := p.Forecast.Duration, 5*time.Second; got != want || p.Forecast.TimesMeasured != enough || !strings.Contains(p.summary(), "one after the other, by how the newest 5 moves went,") {
		t.Errorf("got %v of %d, want %v: %s", got, p.Forecast.TimesMeasured, want, p.summary())
	}
	a, _ := asker()
	a.now = d.Now
	cost, err := a.price(t.Context(), memory{Memory: d}, directory.Move{Tenant: stays, Source: "c1"}, 10_000_000)
	if err != nil || cost.Forecast.Duration != 15*time.Second || cost.TimesMeasured != enough || cost.PausesMeasured != 0 {
		t.Errorf("a single move: got %+v, %v, want ten times 1.5 s", cost, err)
	}
	if got, want := (rehearsed{Rows: 7, Bytes: 10_000_000, Whole: true}).summary(cost), "forecast: 15s, by how the newest 5 moves went; pause 30ms, assumed"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}
