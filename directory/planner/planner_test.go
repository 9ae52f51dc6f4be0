package planner

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// ready is a cell of ten tenants and 100 requests a second.
func ready(id directory.CellID) Cell {
	return Cell{ID: id, State: directory.Ready, Healthy: true, Locality: "eu", Tier: "std", Capacity: 10, Limit: Load{Requests: 100}}
}

func resident(id directory.TenantID, c directory.CellID, requests float64) Tenant {
	return Tenant{ID: id, Cell: c, Load: Load{Requests: requests, Bytes: 1_000_000}, Budget: time.Second}
}

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func TestDrainRespectsEveryRule(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		tenant func(*Tenant)
		target func(*Cell)
		reason Reason
		why    string
	}{
		{name: "a plain tenant moves"},
		{name: "to its own locality", tenant: func(n *Tenant) { n.Locality = "eu" }},
		{"pinned", func(n *Tenant) { n.Pinned = true }, nil, Pinned, "pinned to c1"},
		{"suspended", func(n *Tenant) { n.State = directory.Suspended }, nil, NotActive, "it is suspended"},
		{"already moving", func(n *Tenant) { n.Open = Open{"mv_1", directory.Copied, "c2"} }, nil, Moving, "move mv_1 takes it to c2"},
		{"not moving any more", func(n *Tenant) { n.Open = Open{"mv_1", directory.Aborting, "c9"} }, nil, Moving, "move mv_1 to c9 is being cancelled"},
		{"moved a while ago", func(n *Tenant) { n.Open = Open{"mv_1", directory.Watching, "c1"} }, nil, Watched, "the way back of move mv_1 is open"},
		{"budget spent", func(n *Tenant) { n.Budget = time.Millisecond }, nil, NoBudget, "1ms of its budget is left"},
		{"target cordoned", nil, func(c *Cell) { c.State = directory.Cordoned }, NoCell, "2 not ready"},
		{"target silent", nil, func(c *Cell) { c.Healthy = false }, NoCell, "1 not healthy"},
		{"other tier", func(n *Tenant) { n.Tier = "gold" }, nil, NoCell, "1 of another tier"},
		{"other locality", func(n *Tenant) { n.Locality = "eu" }, func(c *Cell) { c.Locality = "us" }, Bound, "may only be in locality eu"},
		{"no room for a tenant", nil, func(c *Cell) { c.Capacity = 1 }, NoCell, "1 full"},
		{"no room for its requests", func(n *Tenant) { n.Load.Requests = 95 }, nil, NoCell, "1 full"},
		{"no room for its bytes", nil, func(c *Cell) { c.Limit.Bytes = 1_500_000 }, NoCell, "1 full"},
		{"no room for its connections", func(n *Tenant) { n.Load.Connections = 3 }, func(c *Cell) { c.Limit.Connections = 2 }, NoCell, "1 full"},
		{"one of its group is there", func(n *Tenant) { n.Group = "peers" }, nil, NoCell, "1 with one of its group"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tenant, target := resident(1, "c1", 10), ready("c2")
			if tt.tenant != nil {
				tt.tenant(&tenant)
			}
			if tt.target != nil {
				tt.target(&target)
			}
			neighbour := with(resident(2, "c2", 10), func(n *Tenant) { n.Group = "peers" })
			draining := with(ready("c1"), func(c *Cell) { c.State = directory.Draining })
			p, err := Drain(State{[]Cell{draining, target}, []Tenant{tenant, neighbour}}, "c1", Default())
			if err != nil {
				t.Fatal(err)
			}
			if tt.reason == "" {
				if len(p.Moves) != 1 || p.Moves[0].To != "c2" || len(p.Refusals) != 0 {
					t.Errorf("got %+v, want a move to c2", p)
				}
				return
			}
			if len(p.Moves) != 0 || len(p.Refusals) != 1 || p.Refusals[0].Reason != tt.reason || !strings.Contains(p.Refusals[0].Why, tt.why) {
				t.Errorf("got moves %+v, refusals %+v, want %s because %q", p.Moves, p.Refusals, tt.reason, tt.why)
			}
		})
	}
}

func TestDrainSpreadsOverTheRest(t *testing.T) {
	t.Parallel()
	s := State{Cells: []Cell{ready("c1"), ready("c2"), ready("c3")}}
	for i := range 8 {
		s.Tenants = append(s.Tenants, resident(directory.TenantID(i+1), "c1", 10))
	}
	p, err := Drain(s, "c1", Default())
	if err != nil {
		t.Fatal(err)
	}
	got := []int{p.After[0].Tenants, p.After[1].Tenants, p.After[2].Tenants}
	if got[0] != 0 || got[1] != 4 || got[2] != 4 {
		t.Errorf("tenants after: got %v, want [0 4 4]", got)
	}
	if !p.NeedsConfirmation || p.Share != 1 {
		t.Errorf("got share %v, needs confirmation %v, want 1 and true", p.Share, p.NeedsConfirmation)
	}
	if !strings.Contains(p.Moves[0].Why, "cell c1 is drained; of 2 cells that may take it c2 is the least used, 10 % with it") {
		t.Errorf("got why %q", p.Moves[0].Why)
	}
	want := Forecast{Bytes: 8_000_000, Duration: 8 * 600 * time.Millisecond, Pause: 31 * time.Millisecond}
	if got := p.Total(); got != want {
		t.Errorf("total: got %+v, want %+v", got, want)
	}
}

// A plan that is made again while the first one is carried out goes on from there.
func TestMovesUnderWayCountAsDone(t *testing.T) {
	t.Parallel()
	s := State{Cells: []Cell{ready("c1"), ready("c2"), ready("c3")}}
	for i := range 6 {
		s.Tenants = append(s.Tenants, resident(directory.TenantID(i+1), "c1", 10))
	}
	first, err := Rebalance(s, Default())
	if err != nil || len(first.Moves) == 0 {
		t.Fatalf("got %+v, %v, want moves", first, err)
	}
	for _, m := range first.Moves {
		s.Tenants[m.Tenant-1].Open = Open{Move: "mv_1", Phase: directory.Armed, To: m.To}
	}
	again, err := Rebalance(s, Default())
	if err != nil || len(again.Moves) != 0 || again.SpreadBefore != first.SpreadAfter || again.Before[0].Tenants != 6 {
		t.Errorf("again: got %+v, %v, want no move", again, err)
	}
	drain, err := Drain(s, "c2", Default())
	if err != nil || len(drain.Moves) != 0 || len(drain.Refusals) != 2 || drain.Refusals[0].Reason != Coming {
		t.Errorf("drain of a cell that two are on their way to: got %+v, %v, want two refusals", drain, err)
	}
	s.Cells[1].Capacity, s.Cells[2].Capacity = 2, 2
	drain, err = Drain(s, "c1", Default())
	if err != nil || len(drain.Moves) != 0 || len(drain.Refusals) != 6 || drain.Refusals[5].Reason != NoCell {
		t.Errorf("drain to cells whose room is promised: got %+v, %v, want refusals", drain, err)
	}
}

func TestDrainOfOneSmallCellNeedsNoConfirmation(t *testing.T) {
	t.Parallel()
	s := State{Cells: []Cell{ready("c1"), with(ready("c2"), func(c *Cell) { c.Capacity = 50 })}}
	for i := range 20 {
		s.Tenants = append(s.Tenants, resident(directory.TenantID(i+1), "c2", 1))
	}
	s.Tenants[0].Cell = "c1"
	p, err := Drain(s, "c1", Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 1 || p.NeedsConfirmation || p.Share != 0.05 {
		t.Errorf("got %d moves, share %v, needs confirmation %v, want 1, 0.05, false", len(p.Moves), p.Share, p.NeedsConfirmation)
	}
}

func TestRebalanceMovesFewBytes(t *testing.T) {
	t.Parallel()
	large := with(resident(1, "c1", 40), func(n *Tenant) { n.Load.Bytes = 1_000_000_000 })
	small := resident(2, "c1", 40)
	p, err := Rebalance(State{[]Cell{ready("c1"), ready("c2")}, []Tenant{large, small}}, Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 1 || p.Moves[0].Tenant != 2 || p.SpreadBefore != 0.8 || p.SpreadAfter != 0 {
		t.Errorf("got %+v, want tenant 2 alone to move, and a spread from 0.8 to 0", p)
	}
	if want := "c1 uses 80 % of its requests, and c2 will use 40 % with it"; p.Moves[0].Why != want {
		t.Errorf("got why %q, want %q", p.Moves[0].Why, want)
	}
}

func TestRebalanceLeavesAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	balanced := State{[]Cell{ready("c1"), ready("c2")}, []Tenant{resident(1, "c1", 45), resident(2, "c2", 40)}}
	skewed := func(change func(*Tenant)) State {
		return State{[]Cell{ready("c1"), ready("c2")}, []Tenant{with(resident(1, "c1", 40), change), with(resident(2, "c1", 40), change)}}
	}
	cordoned := skewed(func(*Tenant) {})
	cordoned.Cells[1].State = directory.Cordoned
	for _, tt := range []struct {
		name   string
		state  State
		reason Reason
	}{
		{"a fleet within the bound", balanced, ""},
		{"one tenant that would only carry the load elsewhere", State{balanced.Cells, []Tenant{resident(1, "c1", 80)}}, ""},
		{"a cell that is cordoned", cordoned, ""},
		{"who moved an hour ago", skewed(func(n *Tenant) { n.Moved = now.Add(-time.Hour) }), Recent},
		{"who is pinned", skewed(func(n *Tenant) { n.Pinned = true }), Pinned},
		{"who has no budget", skewed(func(n *Tenant) { n.Budget = 0 }), NoBudget},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Default()
			o.Now = now
			p, err := Rebalance(tt.state, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Moves) != 0 {
				t.Errorf("got moves %+v, want none", p.Moves)
			}
			if tt.reason == "" && len(p.Refusals) != 0 || tt.reason != "" && (len(p.Refusals) != 2 || p.Refusals[0].Reason != tt.reason) {
				t.Errorf("got refusals %+v, want reason %q", p.Refusals, tt.reason)
			}
		})
	}
}

// What a move frees is free only when it is done, and moves may be done in any order.
func TestRebalanceGivesNothingAwayTwice(t *testing.T) {
	t.Parallel()
	for name, full := range map[string]func(*Cell){
		"tenants":     func(c *Cell) { c.Capacity = 4 },
		"requests":    func(c *Cell) { c.Limit.Requests = 4 },
		"bytes":       func(c *Cell) { c.Limit.Bytes = 4_000_000 },
		"connections": func(c *Cell) { c.Limit.Connections = 4 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gold := with(with(ready("c1"), full), func(c *Cell) { c.Tier = "gold" })
			s := State{Cells: []Cell{gold, ready("c2"), with(ready("c3"), func(c *Cell) { c.Tier = "iron" })}}
			for id := range directory.TenantID(13) { // four fill c1, any cell may take them; nine may only go there
				n := with(resident(id+1, "c1", 1), func(n *Tenant) { n.Load.Connections = 1 })
				if id >= 4 {
					n.Cell, n.Tier = "c2", "gold"
				}
				s.Tenants = append(s.Tenants, n)
			}
			p, err := Rebalance(s, Default())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range p.Moves {
				if m.To == "c1" {
					t.Errorf("got %+v, but c1 is full until another move is done", m)
				}
			}
			if len(p.Moves) == 0 {
				t.Error("got no moves, want c1 to be relieved")
			}
		})
	}
}

func TestRebalanceStopsAtMaxMoves(t *testing.T) {
	t.Parallel()
	s := State{Cells: []Cell{ready("c1"), ready("c2")}}
	for i := range 10 {
		s.Tenants = append(s.Tenants, resident(directory.TenantID(i+1), "c1", 10))
	}
	o := Default()
	o.MaxMoves = 2
	p, err := Rebalance(s, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 2 {
		t.Errorf("got %d moves, want 2", len(p.Moves))
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	jail := func(id directory.CellID) Cell {
		return with(ready(id), func(c *Cell) { c.State = directory.Quarantine })
	}
	tenants := []Tenant{resident(1, "c1", 10), resident(2, "q1", 10)}
	p, err := Quarantine(State{[]Cell{ready("c1"), ready("c2"), jail("q1"), jail("q2")}, tenants}, 1, Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 1 || p.Moves[0].To != "q2" {
		t.Errorf("got %+v, want a move to the empty q2", p.Moves)
	}
	p, err = Quarantine(State{[]Cell{ready("c1"), ready("c2")}, tenants[:1]}, 1, Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Refusals) != 1 || p.Refusals[0].Reason != NoCell {
		t.Errorf("got %+v, want a refusal: there is no quarantine cell", p)
	}
	p, err = Quarantine(State{[]Cell{ready("c1"), jail("q1"), jail("q2")}, tenants}, 2, Default())
	if err != nil || len(p.Moves) > 0 || len(p.Refusals) > 0 {
		t.Errorf("got %+v, %v, want nothing: it is in quarantine already", p, err)
	}
	leaving := []Tenant{tenants[0], with(tenants[1], func(n *Tenant) { n.Open = Open{"mv_1", directory.Armed, "c1"} })}
	p, err = Quarantine(State{[]Cell{ready("c1"), jail("q1"), jail("q2")}, leaving}, 2, Default())
	if err != nil || len(p.Moves) > 0 || len(p.Refusals) != 1 || p.Refusals[0].Reason != Moving {
		t.Errorf("got %+v, %v, want a refusal: a move takes it out of quarantine", p, err)
	}
	tenants[0].Pinned = true
	p, err = Quarantine(State{[]Cell{ready("c1"), jail("q1")}, tenants}, 1, Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Refusals) != 1 || p.Refusals[0].Reason != Pinned {
		t.Errorf("got %+v, want a refusal: it is pinned", p)
	}
}

// A cell that does not answer cannot be copied from; the moves would wait for it.
func TestWhoIsOnASilentCellStays(t *testing.T) {
	t.Parallel()
	silent := with(ready("c1"), func(c *Cell) { c.Healthy = false })
	p, err := Drain(State{[]Cell{silent, ready("c2")}, []Tenant{resident(1, "c1", 10)}}, "c1", Default())
	if err != nil || len(p.Moves) != 0 || len(p.Refusals) != 1 || p.Refusals[0].Reason != Silent {
		t.Errorf("got %+v, %v, want a refusal: its cell is silent", p, err)
	}
}

func TestEvacuate(t *testing.T) {
	t.Parallel()
	us := func(id directory.CellID) Cell { return with(ready(id), func(c *Cell) { c.Locality = "us" }) }
	bound := with(resident(3, "c1", 10), func(n *Tenant) { n.Locality = "eu" })
	s := State{[]Cell{ready("c1"), ready("c2"), us("c3")}, []Tenant{resident(1, "c1", 10), resident(2, "c2", 10), bound}}
	p, err := Evacuate(s, "eu", Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Moves) != 2 || p.Moves[0].To != "c3" || p.Moves[1].To != "c3" {
		t.Errorf("got moves %+v, want tenants 1 and 2 to c3", p.Moves)
	}
	if len(p.Refusals) != 1 || p.Refusals[0].Tenant != 3 || p.Refusals[0].Reason != Bound {
		t.Errorf("got refusals %+v, want tenant 3, bound", p.Refusals)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	good := State{[]Cell{ready("c1"), ready("c2")}, []Tenant{resident(1, "c1", 10)}}
	tenants := func(t ...Tenant) State { return State{good.Cells, t} }
	drain := func(s State, o Options) error { _, err := Drain(s, "c1", o); return err }
	for _, tt := range []struct {
		name string
		err  error
		want problem.Kind
	}{
		{"drain of an unknown cell", second(Drain(good, "c9", Default())), problem.NotFound},
		{"quarantine of an unknown tenant", second(Quarantine(good, 9, Default())), problem.NotFound},
		{"evacuation of an unknown locality", second(Evacuate(good, "mars", Default())), problem.NotFound},
		{"a tenant on an unknown cell", drain(tenants(resident(1, "c9", 1)), Default()), problem.Invalid},
		{"a tenant that moves to an unknown cell", drain(tenants(with(resident(1, "c1", 1), func(n *Tenant) { n.Open = Open{"mv_1", directory.Planned, "c9"} })), Default()), problem.Invalid},
		{"a tenant twice", drain(tenants(resident(1, "c1", 1), resident(1, "c2", 1)), Default()), problem.Invalid},
		{"a negative load", drain(tenants(resident(1, "c1", -1)), Default()), problem.Invalid},
		{"a cell twice", drain(State{Cells: []Cell{ready("c1"), ready("c1")}}, Default()), problem.Invalid},
		{"a cell without capacity", drain(State{Cells: []Cell{{ID: "c1"}}}, Default()), problem.Invalid},
		{"a share above 1", drain(good, with(Default(), func(o *Options) { o.MaxShare = 2 })), problem.Invalid},
		{"no speed", drain(good, with(Default(), func(o *Options) { o.BytesPerSecond = 0 })), problem.Invalid},
		{"a spread below 0", second(Rebalance(good, with(Default(), func(o *Options) { o.Spread = -1 }))), problem.Invalid},
		{"a negative time", drain(good, with(Default(), func(o *Options) { o.Pause = -1 })), problem.Invalid},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, tt.err, tt.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }
