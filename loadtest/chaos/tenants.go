package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// settleIn makes the tenants: those that move, one that rests and one that is
// busy on each cell.
func (r *run) settleIn(ctx context.Context) error {
	for i := range r.state.Cells {
		cell := r.cellAt(i)
		t, err := r.tenant(ctx, cell)
		if err != nil {
			return err
		}
		if err := r.workAWhile(ctx, t); err != nil {
			return err
		}
		if err := r.rest(ctx, t); err != nil {
			return err
		}
		busy, err := r.tenant(ctx, cell)
		if err != nil {
			return err
		}
		r.busy[cell] = busy.ID
	}
	return r.renew(ctx)
}

// renew puts the tenants that moved so far to rest and makes others in their
// place: what a tenant has written is read whole after each round.
func (r *run) renew(ctx context.Context) error {
	for _, t := range r.movers {
		if err := r.dismiss(ctx, t); err != nil {
			return err
		}
		if err := r.rest(ctx, t); err != nil {
			return err
		}
	}
	var movers []*loadtest.Tenant
	for i := range r.o.Tenants {
		t, err := r.tenant(ctx, r.cellAt(i))
		if err != nil {
			return err
		}
		r.kept[t.ID], r.placed[t.ID] = newKept(t, r.o.Seed), t.Placement.Cell
		r.listen(ctx, t)
		movers = append(movers, t)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.movers = movers
	return nil
}

// tenant makes a tenant on a cell, as an operator does, and waits until every
// router routes it.
func (r *run) tenant(ctx context.Context, cell directory.CellID) (*loadtest.Tenant, error) {
	r.born++
	want := directory.NewTenant{Slug: fmt.Sprintf("chaos-%d", r.born), Name: "Chaos", Cell: cell}
	return r.console.Tenant(ctx, r.ep, r.rec, want, r.o.work())
}

func tenantPath(id directory.TenantID) string { return "/v1/tenants/" + id.String() }

// workAWhile lets a tenant write something before it rests.
func (r *run) workAWhile(ctx context.Context, t *loadtest.Tenant) error {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- t.Work(ctx, stop) }()
	loadtest.Pause(ctx, 500*time.Millisecond)
	close(stop)
	return <-ended
}
