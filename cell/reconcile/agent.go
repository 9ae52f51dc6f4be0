// Package reconcile keeps a cell's database from serving tenants that it may have
// forgotten to have lost.
//
// A database that was promoted from a standby or restored from a backup lacks the
// end of its history: a tenant that has left is still there, one that has come is
// not. The database itself refuses everybody (cell.must_serve) in each new run of
// its server, until the [Agent] has found that nothing is missing, or has brought
// every fence in line with the directory. docs/MOVE.md tells why that is enough.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/telemetry"
)

// A Directory is what an Agent needs of the directory. *directory/client.Client is one.
type Directory interface {
	directory.Failover
	Tenant(ctx context.Context, ref string) (directory.Tenant, error)
	ListTenants(ctx context.Context, of directory.TenantFilter, after directory.TenantID, limit int) ([]directory.Tenant, error)
	ListMoves(ctx context.Context, tenant directory.TenantID, ended bool, before directory.MoveID, limit int) ([]directory.Move, error)
}

// How often an Agent looks, where nothing wakes it.
const (
	beatEvery  = 3 * time.Second        // while all is well
	firstRetry = 100 * time.Millisecond // after a failure; doubles up to beatEvery
	statement  = 30 * time.Second       // deadline of one statement
	witnessing = 2 * time.Second        // deadline of telling or asking the witness: a restart must not wait for a dead directory
)

// Options say whose agent it is. All but Serving are required.
type Options struct {
	Store     *store.Store
	Directory Directory
	Log       *slog.Logger
	Registry  prometheus.Registerer
	Serving   func() // called when the database serves again
}

// An Agent watches over one cell's database. Several processes may have one each.
type Agent struct {
	Options
	wake    chan struct{}
	witness atomic.Int64 // the greatest number that this process knows of
	why     atomic.Pointer[string]
	m       metrics
	refused directory.TenantID // by the directory, the last of which was told
}

// New makes an Agent. Run makes it work.
func New(o Options) *Agent {
	a := &Agent{Options: o, wake: make(chan struct{}, 1), m: newMetrics(o.Registry)}
	a.is("the database has not been asked yet")
	return a
}

// Wake makes the Agent look at once: somebody was refused because the database is
// suspect, or has reason to think that its server was replaced.
func (a *Agent) Wake() {
	select {
	case a.wake <- struct{}{}:
	default: // it is about to look
	}
}

// Ready is a readiness check: the error says why the database serves nobody.
func (a *Agent) Ready(context.Context) error {
	if why := *a.why.Load(); why != "" {
		return errors.New(why)
	}
	return nil
}

// is notes why the database serves nobody, "" where it serves.
func (a *Agent) is(why string) { a.why.Store(&why) }

// Run watches until ctx ends, then returns nil.
func (a *Agent) Run(ctx context.Context) error {
	var listening sync.WaitGroup
	defer listening.Wait()
	// A server that is replaced takes its listeners along: each new connection is a reason to look.
	listening.Go(func() { _ = a.Store.Listen(ctx, "cell_serving", func(string) { a.Wake() }) })

	retry, said := firstRetry, ""
	for ctx.Err() == nil {
		err := a.runOnce(telemetry.Untraced(ctx))
		pause := beatEvery
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			retry, said = firstRetry, ""
		default:
			if text := err.Error(); text != said {
				a.Log.WarnContext(ctx, "watch over the database", "error", err)
				said = text
			}
			pause, retry = retry, min(2*retry, beatEvery)
		}
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-time.After(pause*4/5 + rand.N(pause*2/5)):
		}
	}
	return nil
}

// A condition is what the database says of itself.
type condition struct {
	Serves, Standby, Continues bool
	Beat, Suspects             int64
	Incarnation                string
}

// runOnce tells the directory that all is well, or does what is needed for it.
func (a *Agent) runOnce(ctx context.Context) error {
	c, err := a.condition(ctx, a.Store.DB())
	switch {
	case err != nil:
		return err
	case c.Serves:
		return a.tell(ctx, c)
	}
	a.m.suspect.Set(1)
	a.is("the database is suspect: it was started anew and not yet compared with the directory")
	if c.Standby {
		a.is("the database is a standby")
		return errors.New("the database is a standby")
	}
	if err := a.regain(ctx, c); err != nil {
		a.is("the database is suspect: " + err.Error())
		return err
	}
	if c, err = a.condition(ctx, a.Store.DB()); err != nil || !c.Serves {
		return err // it was replaced again: the next look tells
	}
	return a.tell(ctx, c)
}

func (a *Agent) condition(ctx context.Context, db pg.DB) (c condition, err error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	const ask = `
		SELECT c.serves, c.standby, c.continues, c.beat, c.suspects, i.id::text
		  FROM cell.condition() c, cell.incarnation i`
	err = db.QueryRow(ctx, ask).Scan(&c.Serves, &c.Standby, &c.Continues, &c.Beat, &c.Suspects, &c.Incarnation)
	if err != nil {
		return c, fmt.Errorf("ask the database for its condition: %w", err)
	}
	a.m.tenants.Set(float64(c.Suspects))
	return c, nil
}

// tell makes the database write its next number, and then the directory keep it.
func (a *Agent) tell(ctx context.Context, c condition) error {
	if *a.why.Swap(new(string)) != "" && a.Serving != nil {
		a.Serving()
	}
	a.m.suspect.Set(0)
	written, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	var n int64
	var most directory.TenantID
	if err := a.Store.DB().QueryRow(written, `SELECT cell.beat(), cell.greatest_tenant()`).Scan(&n, &most); err != nil {
		return fmt.Errorf("write the witness: %w", err)
	}
	a.remember(n)
	if err := a.exchange(ctx, c, n, most); err != nil {
		return fmt.Errorf("tell the directory the witness: %w", err)
	}
	return nil
}

// exchange tells the directory a number and the greatest id of a tenant here, 0 for none, and
// remembers its greatest number.
func (a *Agent) exchange(ctx context.Context, c condition, n int64, most directory.TenantID) error {
	ctx, cancel := context.WithTimeout(ctx, witnessing)
	defer cancel()
	w, err := a.Directory.Witness(ctx, a.Store.Cell(), c.Incarnation, n, most)
	a.remember(w.Number)
	switch {
	case w.Raised:
		a.Log.WarnContext(ctx, "the directory had forgotten tenants of this cell: it gives no id again up to this one's", "tenant", most)
	case w.Refused && most != a.refused:
		a.Log.WarnContext(ctx, "the directory does not believe that there is a tenant with so great an id", "tenant", most)
		a.refused = most
	}
	return err
}

// remember keeps the greatest number.
func (a *Agent) remember(n int64) {
	for {
		old := a.witness.Load()
		if n <= old || a.witness.CompareAndSwap(old, n) {
			return
		}
	}
}

// regain makes a suspect database serve: as it is, where the witness shows that
// nothing is missing; reconciled with the directory otherwise.
func (a *Agent) regain(ctx context.Context, c condition) error {
	err := a.exchange(ctx, c, 0, 0)
	witness := a.witness.Load()
	if err != nil && witness == 0 {
		return fmt.Errorf("ask the directory how much there was: %w", err)
	}
	if c.Continues && witness > 0 && c.Beat >= witness {
		return a.resume(ctx, witness)
	}
	return a.Store.InSession(ctx, func(db pg.DB) error { return a.reconcile(ctx, db, witness) })
}

func (a *Agent) resume(ctx context.Context, witness int64) error {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	var serves bool
	if err := a.Store.DB().QueryRow(ctx, `SELECT cell.resume($1)`, witness).Scan(&serves); err != nil {
		return fmt.Errorf("serve again: %w", err)
	}
	if serves {
		a.Log.InfoContext(ctx, "the database was started anew and has lost nothing", "witness", witness)
	}
	return nil // if not, the next look tells
}
