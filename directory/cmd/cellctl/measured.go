package main

import (
	"context"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// freshLoad is how old a report may be that counts: cells report twice a minute.
const freshLoad = 5 * time.Minute

// readLoads is what cells have reported of late. Plans do without what cannot be
// read, as with a directory that does not know of loads yet.
func readLoads(ctx context.Context, d api, cells []directory.Cell, now time.Time) map[directory.CellID][]directory.TenantLoad {
	loads := map[directory.CellID][]directory.TenantLoad{}
	for _, c := range cells {
		of, err := d.CellLoad(ctx, c.ID)
		if err != nil {
			break
		}
		if len(of) > 0 && now.Sub(of[0].At) < freshLoad {
			loads[c.ID] = of
		}
	}
	return loads
}

// requests is each tenant's requests per second: what all cells have measured of it
// (one that has just moved is known to both) and, where its cell does not tell it
// apart, its share of the others there.
func (f fleet) requests() map[directory.TenantID]float64 {
	sum := map[directory.TenantID]float64{}
	told := map[directory.CellID]map[directory.TenantID]bool{}
	for id, loads := range f.loads {
		told[id] = map[directory.TenantID]bool{}
		for _, l := range loads {
			told[id][l.Tenant] = true
			sum[l.Tenant] += l.Requests
		}
	}
	others := map[directory.CellID][]directory.TenantID{}
	for _, t := range f.tenants {
		if at := t.Placement.Cell; !told[at][t.ID] {
			others[at] = append(others[at], t.ID)
		}
	}
	for id, loads := range f.loads {
		for _, l := range loads {
			if l.Tenant != 0 {
				continue
			}
			for _, t := range others[id] {
				sum[t] += l.Requests / float64(len(others[id]))
			}
		}
	}
	delete(sum, 0)
	return sum
}

// quietTenant is the requests per second of a tenant for which no plan weighs it more
// than any other: so little that a cell does not feel it.
const quietTenant = 1.0

// weigh gives cells a limit of requests, so that a busy tenant takes more of a cell
// than an idle one: a cell that is full of average tenants is full by requests,
// too. It does nothing where a cell that takes part has not measured: half a
// measure would make the others look idle.
func (f fleet) weigh(s planner.State) planner.State {
	takesPart := map[directory.CellID]bool{}
	for _, c := range s.Cells {
		if c.State.TakesTenants() && c.Healthy {
			if f.loads[c.ID] == nil {
				return s
			}
			takesPart[c.ID] = true
		}
	}
	requests, tenants := 0.0, 0
	for _, t := range s.Tenants {
		if takesPart[t.Cell] {
			requests += t.Load.Requests
			tenants++
		}
	}
	if tenants == 0 {
		return s
	}
	for i, c := range s.Cells {
		s.Cells[i].Limit.Requests = float64(c.Capacity) * max(requests/float64(tenants), quietTenant)
	}
	return s
}
