package planner

import (
	"cmp"
	"slices"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A fleet is a State with the moves planned so far.
type fleet struct {
	options Options
	cells   []*cell   // by id
	tenants []*tenant // by id
	plan    Plan
}

// A cell's after is what it bears when the plan is done, held the most that it may
// have to bear on the way: there, what leaves is still counted.
type cell struct {
	Cell
	after, held Load
	count, most int     // tenants, as after and held
	share       float64 // used of after
	groups      map[string]bool
	tenants     []*tenant // as they are before the plan, by id
}

type tenant struct {
	Tenant
	from *cell
}

func newFleet(s State, o Options) (*fleet, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f := &fleet{options: o, cells: make([]*cell, 0, len(s.Cells)), tenants: make([]*tenant, 0, len(s.Tenants))}
	byID := make(map[directory.CellID]*cell, len(s.Cells))
	for _, c := range s.Cells {
		if byID[c.ID] != nil || c.Capacity <= 0 || !c.Limit.valid() {
			return nil, problem.New(problem.Invalid, "cell %q is there twice, or its capacity or limit is not a number above 0", c.ID)
		}
		byID[c.ID] = &cell{Cell: c, groups: map[string]bool{}}
		f.cells = append(f.cells, byID[c.ID])
	}
	slices.SortFunc(f.cells, func(a, b *cell) int { return cmp.Compare(a.ID, b.ID) })
	if err := f.settle(s.Tenants, byID); err != nil {
		return nil, err
	}
	f.plan = Plan{Moves: []PlannedMove{}, Refusals: []Refusal{}, Before: f.loads()}
	if err := f.foresee(byID); err != nil {
		return nil, err
	}
	f.plan.SpreadBefore = f.spread()
	return f, nil
}

// foresee puts the tenants that are on their way where they go. Their sources
// hold them until they have gone.
func (f *fleet) foresee(byID map[directory.CellID]*cell) error {
	for _, t := range f.tenants {
		if !t.Open.undecided() {
			continue
		}
		to := byID[t.Open.To]
		if to == nil {
			return problem.New(problem.Invalid, "move %s goes to unknown cell %q", t.Open.Move, t.Open.To)
		}
		f.shift(t, to)
	}
	return nil
}

// settle puts the tenants where they are, in the order of their ids: floats are
// then summed in one order, whatever that of the input.
func (f *fleet) settle(tenants []Tenant, byID map[directory.CellID]*cell) error {
	for _, t := range tenants {
		if byID[t.Cell] == nil || !t.Load.valid() {
			return problem.New(problem.Invalid, "tenant %d is on unknown cell %q, or its load is not a number", t.ID, t.Cell)
		}
		f.tenants = append(f.tenants, &tenant{Tenant: t, from: byID[t.Cell]})
	}
	slices.SortFunc(f.tenants, func(a, b *tenant) int { return cmp.Compare(a.ID, b.ID) })
	for i, t := range f.tenants {
		if i > 0 && f.tenants[i-1].ID == t.ID {
			return problem.New(problem.Invalid, "tenant %d is there twice", t.ID)
		}
		t.from.tenants = append(t.from.tenants, t)
		t.from.take(t)
	}
	return nil
}

func (c *cell) take(t *tenant) {
	c.after, c.held = c.after.add(t.Load), c.held.add(t.Load)
	c.count, c.most = c.count+1, c.most+1
	c.share, _ = c.used(c.count, c.after)
	if t.Group != "" {
		c.groups[t.Group] = true
	}
}

// shift counts t at the cell to.
func (f *fleet) shift(t *tenant, to *cell) {
	t.from.after = t.from.after.sub(t.Load)
	t.from.count--
	t.from.share, _ = t.from.used(t.from.count, t.from.after)
	to.take(t)
}

// move plans that t goes to the cell to.
func (f *fleet) move(t *tenant, to *cell, why string) {
	f.shift(t, to)
	f.plan.Moves = append(f.plan.Moves, PlannedMove{
		Tenant: t.ID, From: t.from.ID, To: to.ID, Why: why, Forecast: f.options.Forecast(t.Load),
	})
}

func (f *fleet) refuse(t *tenant, reason Reason, why string) {
	f.plan.Refusals = append(f.plan.Refusals, Refusal{Tenant: t.ID, Reason: reason, Why: why})
}

// finish is the plan with its sums.
func (f *fleet) finish() Plan {
	p := f.plan
	p.After, p.SpreadAfter = f.loads(), f.spread()
	if len(f.tenants) > 0 {
		p.Share = float64(len(p.Moves)) / float64(len(f.tenants))
	}
	p.NeedsConfirmation = len(p.Moves) > 1 && p.Share > f.options.MaxShare
	return p
}

// used is the largest share of a limit that n tenants of load l take, and of which.
func (c *cell) used(n int, l Load) (share float64, by string) {
	share, by = float64(n)/float64(c.Capacity), "tenants"
	if r := l.Requests / c.Limit.Requests; c.Limit.Requests > 0 && r > share {
		share, by = r, "requests"
	}
	if r := float64(l.Bytes) / float64(c.Limit.Bytes); c.Limit.Bytes > 0 && r > share {
		share, by = r, "bytes"
	}
	if r := l.Connections / c.Limit.Connections; c.Limit.Connections > 0 && r > share {
		share, by = r, "connections"
	}
	return share, by
}

func (f *fleet) loads() []CellLoad {
	loads := make([]CellLoad, 0, len(f.cells))
	for _, c := range f.cells {
		share, by := c.used(c.count, c.after)
		loads = append(loads, CellLoad{Cell: c.ID, Tenants: c.count, Load: c.after, Used: share, By: by})
	}
	return loads
}

// balanced reports whether Rebalance evens out c's load.
func (c *cell) balanced() bool { return c.State.TakesTenants() && c.Healthy }

func (f *fleet) spread() float64 {
	lowest, highest, any := 0.0, 0.0, false
	for _, c := range f.cells {
		if !c.balanced() {
			continue
		}
		if !any {
			lowest, highest, any = c.share, c.share, true
		}
		lowest, highest = min(lowest, c.share), max(highest, c.share)
	}
	return highest - lowest
}

func (f *fleet) cell(id directory.CellID) (*cell, error) {
	i, ok := slices.BinarySearchFunc(f.cells, id, func(c *cell, id directory.CellID) int { return cmp.Compare(c.ID, id) })
	if !ok {
		return nil, problem.New(problem.NotFound, "no cell %q", id)
	}
	return f.cells[i], nil
}
