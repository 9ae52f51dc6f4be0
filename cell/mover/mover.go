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

	stopped chan struct{} // closed by Stop
	once    sync.Once

	spread func(below time.Duration) time.Duration // by how much waits differ, so that movers do not act all at once

	silent  *silence // of the cells that moves need
	unheard *silence // of those that rehearsals need: no move rests because of them
	misses  int      // answers in a row that do not come, before a step that may have taken hours is ended

	hands sync.Map // directory.MoveID: the moves that a work is at
}

// leasesPerSlot bounds the moves that a mover holds and that wait: for a cell that
// does not answer, for their operator.
const leasesPerSlot = 16

// New makes a Mover. open makes the client of a cell.
func New(cfg Config, dir Directory, open func(c directory.Cell) Cell, log *slog.Logger) *Mover {
	cfg.Limits = cfg.Limits.Default()
	return &Mover{
		cfg: cfg, dir: dir, tries: dir, open: open, log: log, m: newMetrics(), slots: make(chan struct{}, cfg.Parallel), wanted: make(chan struct{}), stopped: make(chan struct{}),
		spread: rand.N[time.Duration], silent: &silence{}, unheard: &silence{}, misses: longMisses,
	}
}

// Stop ends the work. Moves in their pause go on until a cell serves their tenants, for some
// seconds at most: nobody is to wait for the next mover because this one is replaced. It
// returns at once, and may be called again.
func (v *Mover) Stop() { v.once.Do(func() { close(v.stopped) }) }

// Run works until Stop, or until ctx ends, at which it drops everything, and returns when the last move has
// been let go.
func (v *Mover) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	taking, end := context.WithCancel(ctx)
	defer end()
	wg.Go(func() {
		select {
		case <-v.stopped:
			end()
		case <-taking.Done():
		}
	})
	wg.Go(func() { v.runRehearsals(taking) })
	leases := make(chan struct{}, leasesPerSlot*v.cfg.Parallel)
	for {
		if !v.await(ctx, taking, &wg, leases, v.wanted) || !v.await(ctx, taking, &wg, v.slots, nil) {
			return nil
		}
		began := time.Now()
		m, err := v.lease(taking, "")
		if err != nil {
			<-v.slots
			<-leases
			if !errors.Is(err, problem.NotFound) && taking.Err() == nil {
				v.log.WarnContext(ctx, "look for moves", "error", err)
			}
			if !v.sleep(taking, v.cfg.Poll) {
				return nil
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-leases }()
			v.work(ctx, taking, m, began, true)
		})
	}
}

// await takes a place in c. While there is none, it wants one of those that hold them, and takes over, in
// places of their own, the moves whose tenants wait: what this mover does may take hours. It
// reports whether taking lived that long.
func (v *Mover) await(ctx, taking context.Context, wg *sync.WaitGroup, c, wanted chan struct{}) bool {
	look := time.NewTicker(v.cfg.Poll)
	defer look.Stop()
	for {
		select {
		case c <- struct{}{}:
			return true
		case wanted <- struct{}{}:
			wanted = nil // one is enough
		case <-taking.Done():
			return false
		case <-look.C:
			began := time.Now()
			m, err := v.lease(taking, directory.InPause)
			if err == nil {
				wg.Go(func() { v.work(ctx, taking, m, began, false) })
			} else if !errors.Is(err, problem.NotFound) && taking.Err() == nil {
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
// end, to a wait, to the end of taking, but for its pause, or to the loss of the lease, which was asked for at leased.
func (v *Mover) work(ctx, taking context.Context, m directory.Move, leased time.Time, slotted bool) {
	if _, has := v.hands.LoadOrStore(m.ID, true); has {
		// That one has lost its lease, as in a process that was suspended, and is on its way out. Both leases are of one
		// holder: letting go that one's gives this one back, and then the move is taken anew.
		if slotted {
			<-v.slots
		}
		return
	}
	defer v.hands.Delete(m.ID)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	w := &work{Mover: v, move: m, taking: taking, told: m.Error, slotted: slotted, own: !slotted, log: v.log.With("move", m.ID, "tenant", m.Tenant)}
	_ = json.Unmarshal(m.Report, &w.report) // a report that cannot be read begins anew
	w.ahead = m.Leased.Add(-v.cfg.LeaseTTL).Sub(leased)
	w.report = w.report.shifted(-w.ahead)
	w.report.Coming = transfer.Coming{} // what came to a mover before is recorded, or lost
	w.facts.Schema = w.report.Schema
	wg.Go(func() {
		v.keep(ctx, cancel, leased, func(ctx context.Context) error {
			now, err := v.lease(ctx, m.ID)
			switch {
			case err != nil:
				return err
			case now.Lease != m.Lease: // the move was aborted from outside, and this took it anew
				return errLost
			}
			w.cancelled.hear(now)
			return nil
		})
	})
	wg.Go(func() {
		select {
		case <-taking.Done():
			if w.waits.Load() {
				run.Pause(ctx, v.cfg.Limits.Pause+stepTimeout)
			}
			cancel()
		case <-ctx.Done():
		}
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
	for v.sleep(ctx, v.cfg.LeaseTTL/6) {
		began := time.Now()
		asking, cancel := context.WithDeadline(ctx, ends(held)) // a directory that hangs must not be waited for longer
		err := extend(asking)
		cancel()
		switch {
		case err == nil:
			held = began
		case errors.Is(err, errLost), errors.Is(err, problem.NotFound), errors.Is(err, problem.Conflict), !time.Now().Before(ends(held)):
			lost()
			return
		}
	}
}

// sleep waits for about d and reports whether ctx still lives.
func (v *Mover) sleep(ctx context.Context, d time.Duration) bool {
	return run.Pause(ctx, d*3/4+v.spread(d/2+1))
}
