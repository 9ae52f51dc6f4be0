package planner

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"pgregory.net/rapid"
)

var (
	localities = []string{"", "eu", "us"}
	tiers      = []string{"", "std", "gold"}
	now        = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
)

func anyCell(r *rapid.T, id int) Cell {
	states := []directory.CellState{directory.Ready, directory.Ready, directory.Ready, directory.Draining, directory.Cordoned, directory.Quarantine}
	return Cell{
		ID:       directory.CellID(fmt.Sprintf("c%d", id)),
		State:    rapid.SampledFrom(states).Draw(r, "state"),
		Healthy:  rapid.IntRange(0, 9).Draw(r, "healthy") > 0,
		Locality: rapid.SampledFrom(localities).Draw(r, "cell locality"),
		Tier:     rapid.SampledFrom(tiers).Draw(r, "cell tier"),
		Capacity: rapid.IntRange(1, 20).Draw(r, "capacity"),
		Limit: Load{
			Requests:    float64(rapid.IntRange(0, 500).Draw(r, "request limit")),
			Bytes:       int64(rapid.IntRange(0, 5000).Draw(r, "byte limit")),
			Connections: float64(rapid.IntRange(0, 50).Draw(r, "connection limit")),
		},
	}
}

func anyTenant(r *rapid.T, id int, cells []Cell) Tenant {
	return Tenant{
		ID:       directory.TenantID(id),
		Cell:     rapid.SampledFrom(cells).Draw(r, "cell").ID,
		Locality: rapid.SampledFrom(localities).Draw(r, "locality"),
		Tier:     rapid.SampledFrom(tiers).Draw(r, "tier"),
		Pinned:   rapid.IntRange(0, 9).Draw(r, "pinned") == 0,
		State:    rapid.SampledFrom([]directory.State{"", directory.Active, directory.Active, directory.Suspended}).Draw(r, "state"),
		Open:     anyOpen(r, cells),
		Group:    rapid.SampledFrom([]string{"", "", "g1", "g2"}).Draw(r, "group"),
		Load: Load{
			Requests:    rapid.Float64Range(0, 100).Draw(r, "requests"),
			Bytes:       int64(rapid.IntRange(0, 1000).Draw(r, "bytes")),
			Connections: float64(rapid.IntRange(0, 10).Draw(r, "connections")),
		},
		Budget: time.Duration(rapid.IntRange(0, 200).Draw(r, "budget")) * time.Millisecond,
		Moved:  now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(r, "moved")) * time.Hour),
	}
}

// anyOpen is none, a move to any cell that is not decided, or one that is.
func anyOpen(r *rapid.T, cells []Cell) Open {
	phase := rapid.SampledFrom([]directory.Phase{"", "", "", "", "", "", directory.Planned, directory.Frozen, directory.Decided, directory.Watching}).Draw(r, "phase")
	if phase == "" {
		return Open{}
	}
	return Open{Move: "mv_1", Phase: phase, To: rapid.SampledFrom(cells).Draw(r, "to").ID}
}

func anyState(r *rapid.T) State {
	var s State
	for i := range rapid.IntRange(1, 8).Draw(r, "cells") {
		s.Cells = append(s.Cells, anyCell(r, i))
	}
	for i := range rapid.IntRange(0, 60).Draw(r, "tenants") {
		s.Tenants = append(s.Tenants, anyTenant(r, i+1, s.Cells))
	}
	return s
}

func options() Options {
	o := Default()
	o.Now = now
	return o
}

// plans is every kind of plan that there is for a state.
func plans(r *rapid.T, s State) map[string]func(State) (Plan, error) {
	cell := rapid.SampledFrom(s.Cells).Draw(r, "the cell")
	all := map[string]func(State) (Plan, error){
		"drain":     func(s State) (Plan, error) { return Drain(s, cell.ID, options()) },
		"rebalance": func(s State) (Plan, error) { return Rebalance(s, options()) },
		"evacuate":  func(s State) (Plan, error) { return Evacuate(s, cell.Locality, options()) },
	}
	if len(s.Tenants) > 0 {
		id := rapid.SampledFrom(s.Tenants).Draw(r, "the tenant").ID
		all["quarantine"] = func(s State) (Plan, error) { return Quarantine(s, id, options()) }
	}
	return all
}

func TestAPlanBreaksNoRule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := anyState(r)
		for name, plan := range plans(r, s) {
			p, err := plan(s)
			if err != nil {
				r.Fatalf("%s: %v", name, err)
			}
			target := directory.Ready
			if name == "quarantine" {
				target = directory.Quarantine
			}
			checkRules(r, name, s, p, target)
			checkSums(r, name, s, p)
		}
	})
}

// checkRules carries the plan out with every target filling up before a source is
// left: the order of moves that strains the cells most.
func checkRules(r *rapid.T, name string, s State, p Plan, target directory.CellState) {
	cells, tenants := map[directory.CellID]Cell{}, map[directory.TenantID]Tenant{}
	for _, c := range s.Cells {
		cells[c.ID] = c
	}
	held := map[directory.CellID][]Tenant{}
	for _, t := range s.Tenants {
		tenants[t.ID] = t
		held[t.Cell] = append(held[t.Cell], t)
		if t.Open.undecided() {
			held[t.Open.To] = append(held[t.Open.To], t)
		}
	}
	for _, m := range p.Moves {
		t, to := tenants[m.Tenant], cells[m.To]
		if !cells[m.From].Healthy {
			r.Fatalf("%s: moves %+v off a cell that is not healthy", name, t)
		}
		if t.Cell != m.From || m.From == m.To || m.Why == "" {
			r.Fatalf("%s: %+v is no move of %+v", name, m, t)
		}
		if t.Pinned || t.State == directory.Suspended || t.Open.Move != "" || m.Forecast.Pause > t.Budget {
			r.Fatalf("%s: moves %+v, which has to stay", name, t)
		}
		if to.State != target || !to.Healthy || t.Locality != "" && t.Locality != to.Locality || t.Tier != "" && t.Tier != to.Tier {
			r.Fatalf("%s: moves %+v to %+v", name, t, to)
		}
		for _, other := range held[m.To] {
			if t.Group != "" && t.Group == other.Group {
				r.Fatalf("%s: %d comes to %d, both of group %s", name, t.ID, other.ID, t.Group)
			}
		}
		held[m.To] = append(held[m.To], t)
		if sum := total(held[m.To]); len(held[m.To]) > to.Capacity || exceeds(sum, to.Limit) {
			r.Fatalf("%s: %s bears %d tenants, %+v of %+v", name, to.ID, len(held[m.To]), sum, to)
		}
		delete(tenants, m.Tenant) // a second move of it is none of a tenant
	}
}

func total(tenants []Tenant) (sum Load) {
	for _, t := range tenants {
		sum = sum.add(t.Load)
	}
	return sum
}

func exceeds(l, limit Load) bool {
	return limit.Requests > 0 && l.Requests > limit.Requests || limit.Bytes > 0 && l.Bytes > limit.Bytes ||
		limit.Connections > 0 && l.Connections > limit.Connections
}

// checkSums holds the plan's own sums against the state.
func checkSums(r *rapid.T, name string, s State, p Plan) {
	count := func(loads []CellLoad) (n int) {
		for _, l := range loads {
			n += l.Tenants
		}
		return n
	}
	if count(p.Before) != len(s.Tenants) || count(p.After) != len(s.Tenants) {
		r.Fatalf("%s: %d tenants before and %d after, want %d", name, count(p.Before), count(p.After), len(s.Tenants))
	}
	if p.NeedsConfirmation != (len(p.Moves) > 1 && p.Share > Default().MaxShare) || p.Share < 0 || p.Share > 1 {
		r.Fatalf("%s: share %v, needs confirmation %v", name, p.Share, p.NeedsConfirmation)
	}
}

func TestWhoIsToLeaveIsMovedOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := anyState(r)
		cell := rapid.SampledFrom(s.Cells).Draw(r, "the cell")
		p, err := Drain(s, cell.ID, options())
		if err != nil {
			r.Fatal(err)
		}
		checkAnswered(r, s, p, func(id directory.CellID) bool { return id == cell.ID })

		local := map[directory.CellID]bool{}
		for _, c := range s.Cells {
			local[c.ID] = c.Locality == cell.Locality
		}
		if p, err = Evacuate(s, cell.Locality, options()); err != nil {
			r.Fatal(err)
		}
		checkAnswered(r, s, p, func(id directory.CellID) bool { return local[id] })
		for _, m := range p.Moves {
			if local[m.To] {
				r.Fatalf("%+v stays in the locality", m)
			}
		}
	})
}

func checkAnswered(r *rapid.T, s State, p Plan, left func(directory.CellID) bool) {
	answers := map[directory.TenantID]int{}
	for _, m := range p.Moves {
		answers[m.Tenant]++
	}
	for _, f := range p.Refusals {
		answers[f.Tenant]++
		if f.Reason == "" || f.Why == "" {
			r.Fatalf("refusal without a reason: %+v", f)
		}
	}
	for _, t := range s.Tenants {
		want := 0
		if left(t.Cell) || t.Open.undecided() && left(t.Open.To) {
			want = 1
		}
		if answers[t.ID] != want {
			r.Fatalf("tenant %d on %s has %d answers, want %d", t.ID, t.Cell, answers[t.ID], want)
		}
	}
}

func TestRebalanceNeverIncreasesTheSpread(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		p, err := Rebalance(anyState(r), options())
		if err != nil {
			r.Fatal(err)
		}
		if p.SpreadAfter > p.SpreadBefore+1e-9 {
			r.Fatalf("spread grows from %v to %v by %+v", p.SpreadBefore, p.SpreadAfter, p.Moves)
		}
		if p.SpreadBefore <= options().Spread && len(p.Moves) > 0 {
			r.Fatalf("spread %v is within the bound, and it moves %+v", p.SpreadBefore, p.Moves)
		}
	})
}

func TestAPlanDependsOnItsInputAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := anyState(r)
		seed := rapid.Uint64().Draw(r, "seed")
		for name, plan := range plans(r, s) {
			want, err := plan(s)
			if err != nil {
				r.Fatal(err)
			}
			got, err := plan(shuffled(s, seed))
			if err != nil {
				r.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				r.Fatalf("%s: in another order got %+v, want %+v", name, got, want)
			}
		}
	})
}

func shuffled(s State, seed uint64) State {
	order := rand.New(rand.NewPCG(seed, 1))
	cells, tenants := append([]Cell(nil), s.Cells...), append([]Tenant(nil), s.Tenants...)
	order.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	order.Shuffle(len(tenants), func(i, j int) { tenants[i], tenants[j] = tenants[j], tenants[i] })
	return State{cells, tenants}
}
