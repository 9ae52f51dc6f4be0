package cell

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// How a cell measures its tenants.
const (
	meterSlot  = 10 * time.Second // the window slides by so much
	meterSlots = 30               // and is so many of them: five minutes
	meterMost  = 10_000           // tenants that a slot tells apart; the others are counted together
	meterEvery = 30 * time.Second // how often the directory is told
)

// usage is how much was asked for.
type usage struct {
	requests int
	busy     time.Duration
}

func (u usage) add(v usage) usage { return usage{u.requests + v.requests, u.busy + v.busy} }

// A Meter measures what each tenant asks of this cell, over a sliding window and
// in bounded memory. The nil Meter measures nothing.
type Meter struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time                                // when it began
	slots [meterSlots]map[directory.TenantID]usage // tenant 0 is the others
	turn  int64                                    // of the newest slot, counted from since
}

// NewMeter begins to measure.
func NewMeter() *Meter { return newMeter(time.Now) }

func newMeter(now func() time.Time) *Meter { return &Meter{now: now, since: now()} }

// Count notes one request of an admitted tenant and how long it took to answer.
func (m *Meter) Count(t directory.TenantID, took time.Duration) {
	if m == nil || t == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slide()
	slot := &m.slots[m.turn%meterSlots]
	if *slot == nil {
		*slot = map[directory.TenantID]usage{}
	}
	if _, known := (*slot)[t]; !known && len(*slot) >= meterMost {
		t = 0
	}
	(*slot)[t] = (*slot)[t].add(usage{1, took})
}

// slide forgets what is older than the window.
func (m *Meter) slide() {
	turn := max(m.turn, int64(m.now().Sub(m.since)/meterSlot))
	for n := max(m.turn+1, turn-meterSlots+1); n <= turn; n++ {
		m.slots[n%meterSlots] = nil
	}
	m.turn = turn
}

// Loads is what was measured, the busiest tenants first by requests, and all
// others together as tenant 0.
func (m *Meter) Loads() []directory.TenantLoad {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slide()
	sum := map[directory.TenantID]usage{}
	for _, slot := range m.slots {
		for t, u := range slot {
			sum[t] = sum[t].add(u)
		}
	}
	// The window ends now, within the newest slot.
	begun := m.since.Add(time.Duration(max(0, m.turn-meterSlots+1)) * meterSlot)
	window := max(m.now().Sub(begun), time.Second).Seconds()
	load := func(t directory.TenantID, u usage) directory.TenantLoad {
		return directory.TenantLoad{Tenant: t, Requests: float64(u.requests) / window, Busy: u.busy.Seconds() / window}
	}
	others := sum[0]
	delete(sum, 0)
	loads := make([]directory.TenantLoad, 0, len(sum)+1)
	for t, u := range sum {
		loads = append(loads, load(t, u))
	}
	slices.SortFunc(loads, func(a, b directory.TenantLoad) int {
		return cmp.Or(-cmp.Compare(a.Requests, b.Requests), cmp.Compare(a.Tenant, b.Tenant))
	})
	for len(loads) > directory.MostLoads-1 {
		last := len(loads) - 1
		others = others.add(sum[loads[last].Tenant])
		loads = loads[:last]
	}
	return append(loads, load(0, others))
}

// A LoadKeeper is who is told. *client.Client implements it.
type LoadKeeper interface {
	ReportLoad(ctx context.Context, id directory.CellID, incarnation string, loads []directory.TenantLoad) error
}

// Run tells the directory what was measured, until ctx ends. Plans are better for
// it, and nothing needs it: what fails is told again with the next report.
func (m *Meter) Run(ctx context.Context, dir LoadKeeper, self directory.Cell, log *slog.Logger) error {
	for wait(ctx, jitter(meterEvery)); ctx.Err() == nil; wait(ctx, jitter(meterEvery)) {
		if err := m.report(ctx, dir, self); err != nil {
			log.DebugContext(ctx, "the directory was not told the load", "error", err)
		}
	}
	return nil
}

func (m *Meter) report(ctx context.Context, dir LoadKeeper, self directory.Cell) error {
	ctx, cancel := context.WithTimeout(ctx, directoryCall)
	defer cancel()
	return dir.ReportLoad(ctx, self.ID, self.Incarnation, m.Loads())
}
