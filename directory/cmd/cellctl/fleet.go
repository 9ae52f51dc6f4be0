package main

import (
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// A fleet is what the directory tells of cells, tenants and moves, as far as plans
// need it. Sizes and pauses it has from the newest thousand moves and all of the
// last two days, times from the newest of them, requests from what cells have measured of late; it does without.
type fleet struct {
	cells   []directory.Cell
	tenants []directory.Tenant
	open    []directory.Move // that have not ended, newest first
	recent  []directory.Move // of the last two days, at least the newest thousand, newest first
	slugs   map[directory.TenantID]string
	loads   map[directory.CellID][]directory.TenantLoad // of cells that have reported of late
	times   []float64                                   // see readTimes
}

// readFleet reads the moves before the tenants: who has arrived meanwhile is then
// counted twice, and never where it is no longer.
func readFleet(ctx context.Context, d api, now time.Time) (fleet, error) {
	f := fleet{slugs: map[directory.TenantID]string{}}
	err := eachMove(ctx, d, 0, false, func(m directory.Move) bool {
		f.open = append(f.open, m)
		return true
	})
	if err != nil {
		return f, err
	}
	err = eachMove(ctx, d, 0, true, func(m directory.Move) bool {
		f.recent = append(f.recent, m)
		return len(f.recent) < pageSize || now.Sub(m.Created) < 2*day
	})
	if err != nil {
		return f, err
	}
	if f.tenants, _, err = listTenants(ctx, d, directory.TenantFilter{}, 0); err != nil {
		return f, err
	}
	for _, t := range f.tenants {
		f.slugs[t.ID] = t.Slug
	}
	if f.cells, err = d.ListCells(ctx); err != nil {
		return f, err
	}
	f.loads = readLoads(ctx, d, f.cells, now)
	f.times = readTimes(ctx, d, f.recent)
	return f, nil
}

// state is the fleet as plans see it at now; budget is the longest pause that any
// tenant may suffer, and its own may leave less.
func (f fleet) state(budget time.Duration, now time.Time) planner.State {
	paused, requests := f.paused(now), f.requests()
	open, sizes, moved := f.openByTenant(), map[directory.TenantID]int64{}, map[directory.TenantID]time.Time{}
	for _, m := range slices.Backward(f.recent) { // the newest wins
		if n := reported(m).Size; n > 0 {
			sizes[m.Tenant] = n
		}
		if m.Phase == directory.Completed || m.Phase == directory.Undone {
			moved[m.Tenant] = switched(m)
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
			Open: open[t.ID], Load: planner.Load{Bytes: sizes[t.ID], Requests: requests[t.ID]}, Budget: min(budget, left(t, paused[t.ID])), Moved: moved[t.ID],
			Group: t.Group,
		})
	}
	return s
}

const day = 24 * time.Hour

// paused is how long moves have made each tenant wait within the last day, by what
// their movers measured.
func (f fleet) paused(now time.Time) map[directory.TenantID]time.Duration {
	sum := map[directory.TenantID]time.Duration{}
	for _, m := range f.recent {
		if now.Sub(switched(m)) < day {
			sum[m.Tenant] += reported(m).Pause
		}
	}
	return sum
}

// switched is when the pause of a move was over, and its watch began. A watch that was closed
// tells too early a time: it was not before the move was made, nor before its last round was
// verified. Where no watch tells, the move's last change does: it is younger, and a pause rather
// counts for too long.
func switched(m directory.Move) time.Time {
	if m.WatchEnds.IsZero() {
		return m.Changed
	}
	at := m.WatchEnds.Add(-m.Watch)
	for _, later := range []time.Time{m.Created, reported(m).Verified} {
		if later.After(at) {
			at = later
		}
	}
	return at
}

// left is what a tenant that has waited for paused may still suffer.
func left(t directory.Tenant, paused time.Duration) time.Duration {
	if t.PauseBudget == 0 {
		return planner.Unlimited
	}
	return max(0, t.PauseBudget-paused)
}

// openByTenant is the move of each tenant that a plan has to respect: of one that
// watches and the one that undoes it the latter. One that is to be cancelled takes its
// tenant nowhere; it may go to a cell that is lost, and lasts until a mover has ended it.
func (f fleet) openByTenant() map[directory.TenantID]planner.Open {
	open := map[directory.TenantID]planner.Open{}
	for _, m := range f.open {
		if old, ok := open[m.Tenant]; !ok || old.Phase == directory.Watching {
			phase := m.Phase
			if phase.BeforeDecision() && m.Wish == directory.Cancel {
				phase = directory.Aborting
			}
			open[m.Tenant] = planner.Open{Move: m.ID, Phase: phase, To: m.Target}
		}
	}
	return open
}
