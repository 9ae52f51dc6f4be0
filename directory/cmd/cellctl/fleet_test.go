package main

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// A pause counts for a day from when the watch began, or from the move's last
// change where no watch did.
func TestBudgetLeft(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	move := func(tenant directory.TenantID, changed, ends time.Duration) directory.Move {
		m := directory.Move{Tenant: tenant, Watch: 10 * time.Hour, Changed: now.Add(changed), Report: []byte(`{"pause_ns":40000000}`)}
		if ends != 0 {
			m.WatchEnds = now.Add(ends)
		}
		return m
	}
	f := fleet{recent: []directory.Move{
		move(1, -time.Minute, -13*time.Hour), // the watch began 23 h ago
		move(1, -2*time.Hour, 0),
		move(1, -time.Hour, -15*time.Hour), // completed an hour ago, but it paused 25 h ago
		move(1, -25*time.Hour, 0),
		move(2, -time.Hour, 0),
	}}
	paused := f.paused(now)
	for _, tt := range []struct {
		tenant directory.Tenant
		want   time.Duration
	}{
		{directory.Tenant{ID: 1, PauseBudget: 100 * time.Millisecond}, 20 * time.Millisecond},
		{directory.Tenant{ID: 1, PauseBudget: 50 * time.Millisecond}, 0},
		{directory.Tenant{ID: 2, PauseBudget: 100 * time.Millisecond}, 60 * time.Millisecond},
		{directory.Tenant{ID: 3, PauseBudget: time.Millisecond}, time.Millisecond},
		{directory.Tenant{ID: 1}, planner.Unlimited},
	} {
		if got := left(tt.tenant, paused[tt.tenant.ID]); got != tt.want {
			t.Errorf("tenant %d of budget %v: got %v left, want %v", tt.tenant.ID, tt.tenant.PauseBudget, got, tt.want)
		}
	}
}
