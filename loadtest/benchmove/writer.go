package benchmove

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// An ack is one acknowledged write of a writer.
type ack struct {
	id   string // of the project that was made
	at   time.Time
	took time.Duration
}

// A writer writes in the names of tenants, in turn, through the routers, at a fixed rate: a
// write begins when its time has come, however many are still under way (an open
// loop), so that a pause is felt by as many as would feel it. No write is
// repeated: each error is one that a client would see.
type writer struct {
	tenants []*loadtest.Tenant
	rate    int

	mu     sync.Mutex
	acks   []ack
	faults []string
	sent   int

	stopping chan struct{}
	done     sync.WaitGroup
	began    time.Time
	ended    time.Time
}

// write starts a writer; stop ends it.
func write(ctx context.Context, rate int, tenants ...*loadtest.Tenant) *writer {
	w := &writer{tenants: tenants, rate: rate, stopping: make(chan struct{}), began: time.Now()}
	w.done.Go(func() { w.run(ctx) })
	return w
}

// run begins a write each time one is due. A late tick is made up for.
func (w *writer) run(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(w.rate))
	defer tick.Stop()
	for {
		select {
		case <-w.stopping:
			return
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for w.sent < int(now.Sub(w.began).Seconds()*float64(w.rate)) {
				w.sent++
				n := w.sent
				w.done.Go(func() { w.one(ctx, n) })
			}
		}
	}
}

func (w *writer) one(ctx context.Context, n int) {
	start := time.Now()
	var made struct{ ID string }
	a, err := w.tenants[n%len(w.tenants)].Do(ctx, loadtest.Request{Path: "/v1/projects", Body: map[string]string{"name": fmt.Sprintf("write %d", n)}})
	at := time.Now()
	if err == nil {
		err = a.Decode(&made)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.acks = append(w.acks, ack{made.ID, at, at.Sub(start)})
	case ctx.Err() == nil:
		w.faults = append(w.faults, err.Error())
	}
}

// stop waits for the writes under way.
func (w *writer) stop() {
	close(w.stopping)
	w.done.Wait()
	w.ended = time.Now()
}

// took is how long the acknowledged writes took.
func (w *writer) took() []time.Duration {
	all := make([]time.Duration, len(w.acks))
	for i, a := range w.acks {
		all[i] = a.took
	}
	return all
}

// achieved is the rate of acknowledged writes; after stop.
func (w *writer) achieved() float64 {
	return float64(len(w.acks)) / w.ended.Sub(w.began).Seconds()
}

// A history is what a tenant's cell knows of its writes: the epoch at which each
// was committed, which says by whom. The events tell, for they move along.
type history map[string]directory.Epoch

// readHistory reads it where the tenant is now.
func readHistory(ctx context.Context, cell stack.Cell, tenant directory.TenantID) (history, error) {
	h := history{}
	err := connected(ctx, cell.DatabaseURL, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT subject, epoch FROM cell.outbox WHERE tenant_id = $1`, tenant)
		if err != nil {
			return err
		}
		var subject string
		var epoch directory.Epoch
		_, err = pgx.ForEachRow(rows, []any{&subject, &epoch}, func() error {
			id := strings.TrimPrefix(subject, "project/")
			if _, twice := h[id]; twice {
				return fmt.Errorf("project %s has two events that made it", id)
			}
			h[id] = epoch
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what tenant %d wrote: %w", tenant, err)
	}
	return h, nil
}

// lost counts the acknowledged writes that the tenant does not have.
func (w *writer) lost(h history) int {
	n := 0
	for _, a := range w.acks {
		if _, ok := h[a.id]; !ok {
			n++
		}
	}
	return n
}

// pause is the time from the last acknowledgement of the owner before epoch to
// the first one of the owner at it, as the tenant's clients saw it. false where
// either has none.
func (w *writer) pause(h history, epoch directory.Epoch) (time.Duration, bool) {
	var last, first time.Time
	for _, a := range w.acks {
		switch e, ok := h[a.id]; {
		case !ok:
		case e < epoch && a.at.After(last):
			last = a.at
		case e == epoch && (first.IsZero() || a.at.Before(first)):
			first = a.at
		}
	}
	return first.Sub(last), !last.IsZero() && !first.IsZero()
}
