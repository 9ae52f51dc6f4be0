// Package deletion brings what the directory says of deleted tenants into a cell.
//
// Its [Agent] asks the directory which of the cell's tenants are deleted. From then
// on the fence lets nobody act for one: no request, schedule, job or event. When the
// grace is over, by the directory's clock, everything that the tenant has left goes,
// batch by batch; the fence stays, as a tombstone. docs/decisions/0030 tells why.
//
// A cell purges on one word alone: the directory's that the tenant is deleted, at the
// tombstone's epoch, that it is due, heard since the last purge began; and not before
// the tombstone has stood for an hour, unless an operator hurries it. A directory
// that does not answer, or does not know the tenant, or knows it at an older epoch,
// purges nothing.
package deletion

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/telemetry"
)

// A Directory is what an Agent needs of the directory. *directory/client.Client is one.
type Directory interface {
	ListDeletions(ctx context.Context, cell directory.CellID, after directory.TenantID, limit int) ([]directory.Deletion, error)
	TellDeletion(ctx context.Context, cell directory.CellID, incarnation string, tenant directory.TenantID, epoch directory.Epoch, purged bool) error
}

// Rows is the cell's database as a purge needs it. *transfer.Purger is one.
type Rows interface {
	// Deleted deletes what there is of a tenant that was deleted at the epoch, and says
	// in which generation of the database.
	Deleted(ctx context.Context, t directory.TenantID, at directory.Epoch) (rows int64, generation string, err error)
	// Purged records that nothing is left. Conflict where the generation is another by now.
	Purged(ctx context.Context, t directory.TenantID, at directory.Epoch, generation string) error
}

// Keys is the cell's Redis as a purge needs it. *keep.Keep is one.
type Keys interface {
	Erase(ctx context.Context, t directory.TenantID, at directory.Epoch, rest time.Duration) error
}

// Events is the cell's event streams as a purge needs them. outbox.Eraser is one.
type Events interface {
	Erase(ctx context.Context, t directory.TenantID, rest time.Duration) error
}

const (
	lookEvery  = 10 * time.Second / 3 // half as long again is the longest: 5 s
	tellAgain  = time.Minute          // a tombstone that the directory does not know
	tellMost   = 200                  // such tombstones in one look
	page       = 1000
	call       = 10 * time.Second       // deadline of one look at the directory, and of one word to it
	statement  = 30 * time.Second       // deadline of one statement
	freezeWait = 150 * time.Millisecond // how long a tenant's transactions are waited for; then the next look tries again
	keysRest   = 5 * time.Millisecond   // between two batches of keys, or of a stream's entries
)

// Options say whose agent it is. All but Rows are required: without Rows
// (no role that moves tenants) nothing is purged, and tenants stand still for good.
type Options struct {
	Store     *store.Store
	Directory Directory
	Rows      Rows
	Keys      Keys
	Events    Events
	Log       *slog.Logger
	Registry  prometheus.Registerer
}

// An Agent looks after one cell's deleted tenants. Several processes may have one each.
type Agent struct {
	Options
	m           metrics
	incarnation string
	wake        chan struct{} // something is due

	mu   sync.Mutex
	due  map[directory.TenantID]directory.Deletion // as of the last look; none where that failed
	said map[directory.TenantID]string             // what was warned of

	unknown map[directory.TenantID]time.Time // when the directory said that it knows no deletion; look's own
}

// New makes an Agent. Run makes it work.
func New(o Options) *Agent {
	return &Agent{
		Options: o, m: newMetrics(o.Registry), wake: make(chan struct{}, 1), said: map[directory.TenantID]string{}, unknown: map[directory.TenantID]time.Time{},
	}
}

// Run looks, and purges beside that, until ctx ends; then it returns nil. A purge may
// take hours, and a tenant that is deleted meanwhile is to stand still at once.
func (a *Agent) Run(ctx context.Context) error {
	ctx = telemetry.Untraced(ctx)
	var purging sync.WaitGroup
	defer purging.Wait()
	purging.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.wake:
				a.purgeAll(ctx)
			}
		}
	})
	for said := ""; ctx.Err() == nil; {
		err := a.look(ctx)
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			a.Log.WarnContext(ctx, "look for deleted tenants", "error", err)
		}
		store.Wait(ctx, lookEvery)
	}
	return nil
}

// note keeps what is due in the place of what was, and has it purged.
func (a *Agent) note(due map[directory.TenantID]directory.Deletion) {
	a.mu.Lock()
	a.due = due
	a.mu.Unlock()
	if len(due) > 0 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}
