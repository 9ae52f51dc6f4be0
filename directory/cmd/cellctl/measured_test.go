package main

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/planner"
)

// Two cells with as many tenants each are even by count. Once both have measured,
// a busy tenant counts for more; half a measure changes nothing.
func TestRebalanceByMeasuredLoad(t *testing.T) {
	t.Parallel()
	d := directorytest.NewMemory()
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := d.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://c", Capacity: 10, Incarnation: "i"}); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"x", "y", "z"} {
			if _, err := d.CreateTenant(t.Context(), directory.NewTenant{Slug: n + string(id), Cell: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	now := time.Now()
	plan := func() planner.Plan {
		t.Helper()
		f, err := readFleet(t.Context(), memory{Memory: d}, now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := planner.Rebalance(f.weigh(f.state(planner.Unlimited, now)), planner.Default())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	report := func(id directory.CellID, loads ...directory.TenantLoad) {
		t.Helper()
		if err := d.ReportLoad(t.Context(), id, "i", loads); err != nil {
			t.Fatal(err)
		}
	}
	load := func(id directory.TenantID, requests float64) directory.TenantLoad {
		return directory.TenantLoad{Tenant: id, Requests: requests}
	}
	if p := plan(); len(p.Moves) != 0 {
		t.Errorf("nobody has measured: got %+v", p.Moves)
	}
	report("c1", load(1, 100), load(2, 80), load(0, 60)) // 3 is among the others
	if p := plan(); len(p.Moves) != 0 {
		t.Errorf("one has measured: got %+v", p.Moves)
	}
	report("c2", load(0, 3))
	p := plan()
	if len(p.Moves) != 1 || p.Moves[0].From != "c1" || p.Before[0].By != "requests" || p.Before[0].Load.Requests != 240 || p.SpreadAfter >= p.SpreadBefore {
		t.Errorf("both have: got %+v, want one move off c1, by requests", p)
	}
	now = now.Add(time.Hour)
	if p := plan(); len(p.Moves) != 0 {
		t.Errorf("measured an hour ago: got %+v", p.Moves)
	}
	now = now.Add(-time.Hour)
	report("c1", load(1, 0.4), load(0, 0))
	report("c2", load(0, 0))
	if p := plan(); len(p.Moves) != 0 {
		t.Errorf("hardly any requests: got %+v", p.Moves)
	}
}
