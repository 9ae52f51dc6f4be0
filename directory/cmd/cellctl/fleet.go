package main

import (
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// A fleet is what the directory tells of cells, tenants and moves, as far as plans
// need it. It knows no load but the number of tenants; sizes and pauses it has
// from the newest thousand moves.
type fleet struct {
	cells   []directory.Cell
	tenants []directory.Tenant
	open    []directory.Move // that have not ended, newest first
	recent  []directory.Move // the newest thousand, newest first
	slugs   map[directory.TenantID]string
}

// readFleet reads the moves before the tenants: who has arrived meanwhile is then
// counted twice, and never where it is no longer.
func readFleet(ctx context.Context, d api) (fleet, error) {
	f := fleet{slugs: map[directory.TenantID]string{}}
	err := eachMove(ctx, d, 0, false, func(m directory.Move) bool {
		f.open = append(f.open, m)
		return true
	})
	if err != nil {
		return f, err
	}
	if f.recent, err = d.ListMoves(ctx, 0, true, "", pageSize); err != nil {
		return f, err
	}
	if f.tenants, _, err = listTenants(ctx, d, "", 0); err != nil {
		return f, err
	}
	for _, t := range f.tenants {
		f.slugs[t.ID] = t.Slug
	}
	f.cells, err = d.ListCells(ctx)
	return f, err
}

// state is the fleet as plans see it; budget is the longest pause that any tenant
// may suffer.
func (f fleet) state(budget time.Duration) planner.State {
	open, sizes, moved := f.openByTenant(), map[directory.TenantID]int64{}, map[directory.TenantID]time.Time{}
	for _, m := range slices.Backward(f.recent) { // the newest wins
		if n := reported(m).Size; n > 0 {
			sizes[m.Tenant] = n
		}
		if m.Phase == directory.Completed || m.Phase == directory.Undone {
			moved[m.Tenant] = m.Created
		}
	}
	var s planner.State
	for _, c := range f.cells {
		s.Cells = append(s.Cells, planner.Cell{
			ID: c.ID, State: c.State, Healthy: c.Healthy, Locality: c.Locality, Tier: c.Tier, Capacity: c.Capacity,
		})
	}
	for _, t := range f.tenants {
		s.Tenants = append(s.Tenants, planner.Tenant{
			ID: t.ID, Cell: t.Placement.Cell, State: t.Placement.State, Locality: t.Locality, Tier: t.Tier, Pinned: t.Pinned,
			Open: open[t.ID], Load: planner.Load{Bytes: sizes[t.ID]}, Budget: budget, Moved: moved[t.ID],
		})
	}
	return s
}

// openByTenant is the move of each tenant that a plan has to respect: of one that
// watches and the one that undoes it the latter.
func (f fleet) openByTenant() map[directory.TenantID]planner.Open {
	open := map[directory.TenantID]planner.Open{}
	for _, m := range f.open {
		if old, ok := open[m.Tenant]; !ok || old.Phase == directory.Watching {
			open[m.Tenant] = planner.Open{Move: m.ID, Phase: m.Phase, To: m.Target}
		}
	}
	return open
}

// enough is how many measured pauses say more than the planner's assumption.
const enough = 5

// pause is the median of the pauses that the newest moves report, and of how many;
// 0 where they are too few.
func (f fleet) pause() (median time.Duration, of int) {
	var all []time.Duration
	for _, m := range f.recent {
		if p := reported(m).Pause; p > 0 {
			all = append(all, p)
		}
	}
	if len(all) < enough {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], len(all)
}
