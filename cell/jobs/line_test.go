package jobs

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

func TestSlowJobsOfATenantLeaveAWorkerToOthers(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1, 2)
	const many, most = 8, 3
	for range many {
		w.enqueue(t, 1, New{Kind: kind, Payload: "slow"})
	}
	inside, release := make(chan struct{}, many), make(chan struct{})
	slow := Kind{Name: kind, Handle: func(ctx context.Context, tx *store.Tx, j Job) error {
		if tx.Tenant == 1 {
			inside <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return effect(ctx, tx, j)
	}}
	o := quick()
	o.Parallel = most + 1
	start(t, w.runner(t, o, slow))
	eventually(t, "most of the workers are one tenant's", func() bool { return len(inside) >= most })
	w.enqueue(t, 2, New{Kind: kind, Payload: "one"})
	eventually(t, "the other's job", func() bool { return len(w.effects(t, 2)) == 1 })
	if n := len(inside); n != most {
		t.Errorf("%d workers had jobs of one tenant, want %d", n, most)
	}
	close(release)
	eventually(t, "all jobs", func() bool { return len(w.effects(t, 1)) == many })
}

func TestATenantWithItsWorkersIsPassedOver(t *testing.T) {
	t.Parallel()
	l := newLine(3)
	for range 2 {
		l.add(1, 1)
		if got, _, ok := l.pop(); !ok || got != 1 {
			t.Fatalf("got %d, %v", got, ok)
		}
	}
	l.add(1, 1)
	if _, _, ok := l.pop(); ok {
		t.Fatal("a tenant got all workers")
	}
	l.add(2, 7)
	l.add(3, 1)
	for _, want := range []struct{ tenant, epoch int }{{2, 7}, {3, 1}} {
		if got, e, ok := l.pop(); !ok || int(got) != want.tenant || int(e) != want.epoch {
			t.Errorf("got %d at %d, %v, want %+v", got, e, ok, want)
		}
	}
	l.done(1)
	if got, _, ok := l.next(t.Context()); !ok || got != 1 {
		t.Errorf("after its turn: got %d, %v", got, ok)
	}
	for range 2 {
		l.done(1)
	}
	l.done(2)
	l.done(3)
	if len(l.busy) != 0 || len(l.order) != 0 {
		t.Errorf("left: %v, %v", l.busy, l.order)
	}
}
