package cell

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

func TestMeterTellsTheBusiestAndForgets(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	m := newMeter(func() time.Time { return now })
	for range 20 {
		m.Count(7, 50*time.Millisecond)
	}
	m.Count(8, 500*time.Millisecond)
	m.Count(0, time.Second) // nobody's
	now = now.Add(10 * time.Second)
	want := []directory.TenantLoad{{Tenant: 7, Requests: 2, Busy: 0.1}, {Tenant: 8, Requests: 0.1, Busy: 0.05}, {}}
	if got := m.Loads(); !slices.Equal(got, want) {
		t.Errorf("within the first window: got %+v, want %+v", got, want)
	}
	now = now.Add(4 * time.Minute)
	m.Count(8, 0)
	now = now.Add(time.Minute) // what was first is out of the window
	got := m.Loads()
	if len(got) != 2 || got[0].Tenant != 8 || got[0].Requests <= 1.0/301 || got[0].Requests > 1.0/290 {
		t.Errorf("a window later: got %+v, want one request of tenant 8 in five minutes", got)
	}
	now = now.Add(time.Hour)
	if got := m.Loads(); len(got) != 1 || got[0] != (directory.TenantLoad{}) {
		t.Errorf("an hour later: got %+v, want nothing", got)
	}
	(*Meter)(nil).Count(7, time.Second)
}

func TestMeterIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	m := newMeter(func() time.Time { return now })
	const tenants = meterMost + 500
	for id := range directory.TenantID(tenants) {
		m.Count(id+1, 0)
	}
	m.Count(300, 0)
	if n := len(m.slots[0]); n > meterMost+1 {
		t.Errorf("a slot holds %d tenants, want at most %d", n, meterMost+1)
	}
	now = now.Add(10 * time.Second)
	got := m.Loads()
	if err := directory.CheckLoads(got); err != nil {
		t.Error(err)
	}
	sum := 0.0
	for _, l := range got {
		sum += l.Requests * 10
	}
	if len(got) != directory.MostLoads || got[0].Tenant != 300 || sum < tenants || sum > tenants+2 {
		t.Errorf("got %d loads of %.1f requests, the first %+v", len(got), sum, got[0])
	}
}

// keeper answers with an error and remembers what it was told.
type keeper struct {
	cell  directory.CellID
	inc   string
	loads []directory.TenantLoad
	until time.Time
}

func (k *keeper) ReportLoad(ctx context.Context, id directory.CellID, incarnation string, loads []directory.TenantLoad) error {
	k.cell, k.inc, k.loads = id, incarnation, loads
	k.until, _ = ctx.Deadline()
	return errors.New("not now")
}

func TestMeterReportsWithinADeadline(t *testing.T) {
	t.Parallel()
	m, k := NewMeter(), &keeper{}
	m.Count(1, time.Second)
	if err := m.report(t.Context(), k, directory.Cell{ID: "c1", Incarnation: "i1"}); err == nil {
		t.Error("the error is lost")
	}
	if k.cell != "c1" || k.inc != "i1" || len(k.loads) != 2 || k.until.IsZero() {
		t.Errorf("told %+v", k)
	}
}
