package cell

import (
	"context"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// arrivalWait bounds how long a request waits for a tenant that is about to be
// served here: the routers know of the move's decision a little before this cell.
const arrivalWait = 2 * time.Second

// arrivals wakes the requests that came before their tenant.
type arrivals struct {
	mu      sync.Mutex
	waiting map[directory.TenantID]chan struct{}
}

// notice returns a channel that is closed when the tenant's fence changes.
func (a *arrivals) notice(t directory.TenantID) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = map[directory.TenantID]chan struct{}{}
	}
	c, ok := a.waiting[t]
	if !ok {
		c = make(chan struct{})
		a.waiting[t] = c
	}
	return c
}

// heard wakes those who wait for the tenant that payload names; for any, where it
// names none: then notices may have been missed.
func (a *arrivals) heard(payload string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, err := directory.ParseTenantID(payload)
	for t, c := range a.waiting {
		if err != nil || t == id {
			close(c)
			delete(a.waiting, t)
		}
	}
}

// awaited reports whether err refuses a request at e only because the tenant,
// decided to be served here at e, is not yet, or because nobody is at the moment.
// A tenant whose fence is behind e was to leave, and the directory has decided
// against it.
func awaited(err error, e directory.Epoch) bool {
	f, ok := fence.Refused(err)
	comes := f.State == fence.Incoming && f.Epoch == e
	stays := (f.State == fence.Frozen || f.State == fence.Active) && f.Epoch < e
	return ok && (comes || stays) || fence.IsSuspect(err)
}

// Run wakes requests that wait for their tenant, and streams that have something
// to read or must end, until ctx ends. Without it the former wait in vain and are
// answered as stale, and the latter are late.
func (d *DB) Run(ctx context.Context) error {
	g := run.NewGroup(telemetry.Untraced(ctx))
	g.Go("hear of arrivals", func(ctx context.Context) error { return d.store.Listen(ctx, "cell_fence", d.arrivals.heard) })
	g.Go("hear of news", func(ctx context.Context) error { return d.store.Listen(ctx, streamChannel, d.streams.heard) })
	g.Go("watch streams", func(ctx context.Context) error { return d.streams.watch(ctx, d.store) })
	return g.Wait()
}

// await waits until try succeeds or fails for another reason than that the tenant
// is still arriving. Whoever waits asks for the notice first and tries after
// that, so none is missed.
func (d *DB) await(ctx context.Context, t directory.TenantID, e directory.Epoch, try func() error) error {
	timeout := time.NewTimer(arrivalWait)
	defer timeout.Stop()
	for {
		notice := d.arrivals.notice(t)
		err := try()
		if !awaited(err, e) {
			return err
		}
		if d.suspect != nil && fence.IsSuspect(err) {
			d.suspect()
		}
		select {
		case <-notice:
		case <-timeout.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}
