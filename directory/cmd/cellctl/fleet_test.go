package main

import (
	"fmt"
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

// TestAClosedWatchForgetsNoPause: who ends a watch before its time, as a drain with --complete does,
// moves its end, and with it when it seems to have begun. What the move cost is spent all the same,
// and its tenant has moved when it did, however long before that the move was asked for.
func TestAClosedWatchForgetsNoPause(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	move := func(created, verified, watch, ends time.Duration) directory.Move {
		return directory.Move{
			Tenant: 1, Phase: directory.Completed, Created: now.Add(created), Watch: watch, WatchEnds: now.Add(ends), Changed: now.Add(ends),
			Report: fmt.Appendf(nil, `{"pause_ns":40000000,"verified_at":%q}`, now.Add(verified).Format(time.RFC3339)),
		}
	}
	const hour = time.Hour
	for name, tt := range map[string]struct {
		move   directory.Move
		spent  time.Duration
		reason planner.Reason // why a rebalance leaves it alone
	}{
		"closed after an hour":              {move(-3*hour, -2*hour, day, -hour), 40 * time.Millisecond, planner.Recent},
		"asked for two days ago":            {move(-2*day, -hour, time.Microsecond, -hour), 40 * time.Millisecond, planner.Recent},
		"closed, and asked for long before": {move(-2*day, -2*hour, day, -hour), 40 * time.Millisecond, planner.Recent},
		"closed, and long ago":              {move(-3*day, -25*hour, day, -hour), 0, ""},
		"over":                              {move(-50*hour, -49*hour, day, -25*hour), 0, ""},
	} {
		f := fleet{
			recent:  []directory.Move{tt.move},
			cells:   []directory.Cell{{ID: "c1", State: directory.Ready, Healthy: true, Capacity: 4}, {ID: "c2", State: directory.Ready, Healthy: true, Capacity: 4}},
			tenants: []directory.Tenant{{ID: 1, Placement: directory.Placement{Cell: "c1", State: directory.Active}}, {ID: 2, Pinned: true, Placement: directory.Placement{Cell: "c1", State: directory.Active}}},
		}
		if got := f.paused(now)[1]; got != tt.spent {
			t.Errorf("%s: got %v spent, want %v", name, got, tt.spent)
		}
		o := planner.Default()
		o.Now = now
		p, err := planner.Rebalance(f.state(planner.Unlimited, now), o)
		if err != nil {
			t.Fatal(err)
		}
		var got planner.Reason
		for _, r := range p.Refusals {
			if r.Tenant == 1 {
				got = r.Reason
			}
		}
		if got != tt.reason || len(p.Moves) == 0 != (tt.reason != "") {
			t.Errorf("%s: got %+v, want %q", name, p, tt.reason)
		}
	}
}
