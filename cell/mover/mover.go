package mover

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// A Directory is what a mover needs of the directory. *directory/client.Client is one.
type Directory interface {
	Record
	Rehearsals
}

// A Record is what one move needs of the directory. Together with a [Cell] it is the executor that
// the loop of a move works with: the real one is made of clients, that of a rehearsal of
// a dryRecord and dryCells.
type Record interface {
	Cell(ctx context.Context, id directory.CellID) (directory.Cell, error)
	Move(ctx context.Context, id directory.MoveID) (directory.Move, error)
	LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error)
	RestMove(ctx context.Context, m directory.Move, d time.Duration) error
	Advance(ctx context.Context, m directory.Move, from directory.Phase) error
}

// Rehearsals is where a mover finds moves to rehearse.
type Rehearsals interface {
	LeaseRehearsal(ctx context.Context, id directory.RehearsalID, holder string, ttl time.Duration) (directory.Rehearsal, error)
	EndRehearsal(ctx context.Context, r directory.Rehearsal) error
}

// A Cell is what a mover needs of a cell. *client.Client is one; so are the dryCell of
// rehearsals and the fake of the random tests.
type Cell interface {
	Source
	Target
}

// Source is what a mover asks of the cell that a tenant leaves.
type Source interface {
	Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error)
	Fence(ctx context.Context, t directory.TenantID) (fence.Fence, error)
	Arm(ctx context.Context, m transfer.Move, wait time.Duration) error
	Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error
	Retire(ctx context.Context, m transfer.Move) error
	Release(ctx context.Context, m transfer.Move) error
	Forget(ctx context.Context, m transfer.Move) error
	Purge(ctx context.Context, m transfer.Move) (rows int64, err error)
	Kept(ctx context.Context, m transfer.Move, keys map[string]json.RawMessage) (map[string]transfer.Digest, error)
}

// Target is what a mover asks of the cell that a tenant comes to.
type Target interface {
	Reserve(ctx context.Context, m transfer.Move) error
	Pull(ctx context.Context, m transfer.Move, sourceURL string, final bool) (transfer.Received, error)
	Coming(ctx context.Context, m transfer.Move) (transfer.Coming, error)
	Verify(ctx context.Context, m transfer.Move) ([]transfer.Finding, error)
	Activate(ctx context.Context, m transfer.Move) error
	Discard(ctx context.Context, m transfer.Move) error
	Disarm(ctx context.Context, m transfer.Move, wait time.Duration) error
	Unchanged(ctx context.Context, m transfer.Move) (transfer.Part, error)
}

// Config says how a Mover works.
type Config struct {
	ID       string        // who it is; leases carry it
	Parallel int           // moves side by side
	LeaseTTL time.Duration // how long after its death another mover may take over
	Poll     time.Duration // how often it looks for work
	Limits   Limits
}

// A Mover works on the moves that the directory records, several side by side,
// each under a lease whose context ends with it.
type Mover struct {
	cfg    Config
	dir    Record
	tries  Rehearsals
	open   func(c directory.Cell) Cell
	log    *slog.Logger
	m      *metrics
	slots  chan struct{} // one for each move that does something now; a move in its own place needs none
	wanted chan struct{} // what a held move takes to give its lease's place to another

	silent  *silence // of the cells that moves need
	unheard *silence // of those that rehearsals need: no move rests because of them
	misses  int      // answers in a row that do not come, before a step that may have taken hours is ended
}

// leasesPerSlot bounds the moves that a mover holds and that wait: for a cell that
// does not answer, for their operator.
const leasesPerSlot = 16

// New makes a Mover. open makes the client of a cell.
func New(cfg Config, dir Directory, open func(c directory.Cell) Cell, log *slog.Logger) *Mover {
	cfg.Limits = cfg.Limits.Default()
	return &Mover{
		cfg: cfg, dir: dir, tries: dir, open: open, log: log, m: newMetrics(), slots: make(chan struct{}, cfg.Parallel), wanted: make(chan struct{}),
		silent: &silence{}, unheard: &silence{}, misses: longMisses,
	}
}

// Run works until ctx ends, and returns when the last move has been let go.
func (v *Mover) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { v.runRehearsals(ctx) })
	leases := make(chan struct{}, leasesPerSlot*v.cfg.Parallel)
	for {
		if !v.await(ctx, &wg, leases, v.wanted) || !v.await(ctx, &wg, v.slots, nil) {
			return nil
		}
		began := time.Now()
		m, err := v.lease(ctx, "")
		if err != nil {
			<-v.slots
			<-leases
			if !errors.Is(err, problem.NotFound) && ctx.Err() == nil {
				v.log.WarnContext(ctx, "look for moves", "error", err)
			}
			if !sleep(ctx, v.cfg.Poll) {
				return nil
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-leases }()
			v.work(ctx, m, began, true)
		})
	}
}

// await takes a place in c. While there is none, it wants one of those that hold them, and takes over, in
// places of their own, the moves whose tenants wait: what this mover does may take hours. It
// reports whether ctx lived that long.
func (v *Mover) await(ctx context.Context, wg *sync.WaitGroup, c, wanted chan struct{}) bool {
	look := time.NewTicker(v.cfg.Poll)
	defer look.Stop()
	for {
		select {
		case c <- struct{}{}:
			return true
		case wanted <- struct{}{}:
			wanted = nil // one is enough
		case <-ctx.Done():
			return false
		case <-look.C:
			began := time.Now()
			m, err := v.lease(ctx, directory.InPause)
			if err == nil {
				wg.Go(func() { v.work(ctx, m, began, false) })
			} else if !errors.Is(err, problem.NotFound) && ctx.Err() == nil {
				v.log.WarnContext(ctx, "look for moves in their pause", "error", err)
			}
		}
	}
}

// take takes a place in c, and reports whether ctx lived that long.
func take(ctx context.Context, c chan struct{}) bool {
	select {
	case c <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (v *Mover) lease(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.LeaseTTL*2/3) // what comes later is of no use: keep would find it over
	defer cancel()
	return v.dir.LeaseMove(ctx, id, v.cfg.ID, v.cfg.LeaseTTL)
}

// work takes a leased move, which has a slot or a place of its own, as far as it can go: to its
// end, to a wait, or to the loss of the lease, which was asked for at leased.
func (v *Mover) work(ctx context.Context, m directory.Move, leased time.Time, slotted bool) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := &work{Mover: v, move: m, told: m.Error, slotted: slotted, own: !slotted, log: v.log.With("move", m.ID, "tenant", m.Tenant)}
	_ = json.Unmarshal(m.Report, &w.report) // a report that cannot be read begins anew
	w.report.Coming = transfer.Coming{}     // what came to a mover before is recorded, or lost
	w.facts.Schema = w.report.Schema
	wg.Go(func() {
		v.keep(ctx, cancel, leased, func(ctx context.Context) error {
			now, err := v.lease(ctx, m.ID)
			if err == nil {
				w.cancelled.hear(now)
			}
			return err
		})
	})
	v.m.running.Inc()
	defer v.m.running.Dec()
	w.run(ctx)
	if w.slotted {
		<-v.slots
	}
	cancel()
	wg.Wait() // an extension under way would take the lease again that is given back now
	v.letGo(ctx, m.ID)
}

// letGo gives the lease back, so that nobody waits for it to end by itself. ctx may be
// over: that is often why the move is let go.
func (v *Mover) letGo(ctx context.Context, id directory.MoveID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = v.dir.LeaseMove(ctx, id, v.cfg.ID, 0) // else it ends by itself
}

// keep extends the lease, which was asked for at held, until ctx ends. When it cannot be extended, it ends ctx
// before the lease does: two thirds of the time are gone then, by this process's
// own clock and counted from before the call.
func (v *Mover) keep(ctx context.Context, lost context.CancelFunc, held time.Time, extend func(ctx context.Context) error) {
	ends := func(held time.Time) time.Time { return held.Add(v.cfg.LeaseTTL * 2 / 3) }
	for sleep(ctx, v.cfg.LeaseTTL/6) {
		began := time.Now()
		asking, cancel := context.WithDeadline(ctx, ends(held)) // a directory that hangs must not be waited for longer
		err := extend(asking)
		cancel()
		switch {
		case err == nil:
			held = began
		case errors.Is(err, problem.NotFound), errors.Is(err, problem.Conflict), !time.Now().Before(ends(held)):
			lost()
			return
		}
	}
}

// sleep waits for about d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	return run.Pause(ctx, d*3/4+rand.N(d/2+1))
}
