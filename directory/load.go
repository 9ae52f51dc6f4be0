package directory

import (
	"context"
	"math"
	"strconv"
	"time"
)

// A TenantLoad is what a tenant has asked of a cell of late, as the cell measured it.
type TenantLoad struct {
	Tenant   TenantID  `json:"tenant"`              // 0: all others of the cell together
	Requests float64   `json:"requests_per_second"` // admitted, whatever they were answered
	Busy     float64   `json:"busy"`                // seconds within a second that handlers worked for it
	At       time.Time `json:"at,omitzero"`         // when it was reported; ignored on write
}

// MostLoads bounds a report: the busiest tenants, and the others together.
const MostLoads = 201

// Loads is the part of a Directory that keeps what cells have measured. Nobody
// depends on it to serve: it makes plans better.
type Loads interface {
	// ReportLoad replaces what the cell has reported before. It is no mutation and
	// no heartbeat. Conflict where incarnation differs.
	ReportLoad(ctx context.Context, id CellID, incarnation string, loads []TenantLoad) error
	// CellLoad is the newest report of a cell, by tenant; none where there is none.
	CellLoad(ctx context.Context, id CellID) ([]TenantLoad, error)
}

// CheckLoads reports what is wrong with a report.
func CheckLoads(loads []TenantLoad) error {
	var bad fieldErrors
	bad.check(len(loads) <= MostLoads, "/tenants", "must be at most "+strconv.Itoa(MostLoads))
	seen := make(map[TenantID]bool, len(loads))
	for i, l := range loads {
		at := "/tenants/" + strconv.Itoa(i)
		bad.check(l.Tenant >= 0 && !seen[l.Tenant], at+"/tenant", "must be positive, or 0 for the others, and there once")
		bad.check(measurable(l.Requests), at+"/requests_per_second", "must be a number, 0 or more")
		bad.check(measurable(l.Busy), at+"/busy", "must be a number, 0 or more")
		seen[l.Tenant] = true
	}
	return bad.err("load")
}

func measurable(f float64) bool { return f >= 0 && !math.IsInf(f, 0) }
