package mover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A world is two cells without databases and the faults between them and the
// movers. Each call to a cell meets at most one fault: it is lost, its answer is
// lost, or it is late, done again after others. One tenant writes all the time: a
// write is a number, accepted by the cell whose fence lets it in.
type world struct {
	mu       sync.Mutex
	cells    map[directory.CellID]*fakeCell
	fault    func() fault
	acked    []int // numbers that were acknowledged, in order
	next     int
	broken   []string // what must never be
	compared atomic.Int32
	damaged  atomic.Bool // the copy that is kept
	late     []func()    // calls of movers that were taken for lost, still to arrive
}

type fault int

const (
	none fault = iota
	lost
	answerLost
	late
	faults
)

// A fakeCell keeps the fence and the rows (the numbers written) of one tenant, by
// the rules of cell/store/migrations/00010_move.sql.
type fakeCell struct {
	w        *world
	id       directory.CellID
	fence    fence.Fence
	rows     []int
	received map[string]transfer.Received
}

func newWorld(fault func() fault) *world {
	w := &world{fault: fault, cells: map[directory.CellID]*fakeCell{}}
	for _, id := range []directory.CellID{"a", "b"} {
		w.cells[id] = &fakeCell{w: w, id: id, received: map[string]transfer.Received{}}
	}
	w.cells["a"].fence = fence.Fence{Tenant: 1, Epoch: 1, State: fence.Active}
	return w
}

// write is one request of the tenant at each cell that would take it.
func (w *world) write() {
	active := 0
	for _, c := range w.cells {
		if c.fence.State != fence.Active {
			continue
		}
		active++
		w.next++
		c.rows = append(c.rows, w.next)
		w.acked = append(w.acked, w.next)
	}
	if active > 1 {
		w.broken = append(w.broken, "two cells accept the tenant's writes")
	}
}

var errNet = problem.New(problem.Unavailable, "the network is down")

// call runs effect under the faults, with writes before and after.
func (w *world) call(effect func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write()
	defer w.write()
	if len(w.late) > 0 && w.fault() == late { // an older call arrives only now
		w.late[0]()
		w.late = w.late[1:]
		w.write()
	}
	switch w.fault() {
	case lost:
		return errNet
	case answerLost:
		_ = effect() // done, and nobody knows
		return errNet
	case late:
		w.late = append(w.late, func() { _ = effect() })
		return errNet
	}
	return effect()
}

func conflict(f fence.Fence) error {
	return problem.New(problem.Conflict, "the fence is %s at %d", f.State, f.Epoch)
}

// to makes the fence next if it is as when asks, or finds it so already.
func (c *fakeCell) to(when bool, next fence.Fence) error {
	if when {
		next.Tenant = 1
		c.fence = next
		return nil
	}
	if c.fence.State != next.State || c.fence.Epoch != next.Epoch || c.fence.Move != next.Move {
		return conflict(c.fence)
	}
	return nil
}

func (c *fakeCell) Preflight(context.Context, transfer.Move, bool) (r transfer.Report, err error) {
	return transfer.Report{Fingerprint: "same", Bytes: 1 << 30}, c.w.call(func() error { return nil })
}

func (c *fakeCell) Reserve(_ context.Context, m transfer.Move) error {
	return c.w.call(func() error {
		f := c.fence
		kept := m.Undoes != "" && f.State == fence.Moved && f.Move == string(m.Undoes) && f.Epoch < m.Base+1
		if kept {
			c.received[string(m.ID)] = transfer.Received{Snapshot: transfer.Everything}
		}
		free := f.Epoch == 0 || ((f.State == fence.Moved || f.State == fence.Incoming) && f.Epoch < m.Base+1)
		return c.to(free && (m.Undoes == "" || kept), fence.Fence{State: fence.Incoming, Epoch: m.Base + 1, Move: string(m.ID)})
	})
}

func (c *fakeCell) Fence(context.Context, directory.TenantID) (f fence.Fence, err error) {
	err = c.w.call(func() error { f = c.fence; return nil })
	return f, err
}

func (c *fakeCell) Arm(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.w.call(func() error {
		return c.to(c.fence.State == fence.Active && c.fence.Epoch == m.Base,
			fence.Fence{State: fence.Active, Epoch: m.Base, Move: string(m.ID), Capture: true})
	})
}

func (c *fakeCell) Freeze(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.w.call(func() error {
		f := c.fence
		return c.to(f.State == fence.Active && f.Epoch == m.Base && f.Capture && f.Move == string(m.ID),
			fence.Fence{State: fence.Frozen, Epoch: m.Base + 1, Move: string(m.ID), Capture: true})
	})
}

func (c *fakeCell) Pull(ctx context.Context, m transfer.Move, _ string, final bool) (got transfer.Received, err error) {
	if final && !c.w.awaitFreeze(ctx, m) {
		return got, problem.New(problem.Unavailable, "not frozen yet")
	}
	err = c.w.call(func() error {
		f := c.fence
		if f.State != fence.Incoming || f.Move != string(m.ID) || f.Epoch != m.Base+1 {
			return conflict(f)
		}
		var begun bool
		if got, begun = c.received[string(m.ID)]; !begun {
			got.Round = -1
		}
		if got.Final {
			return nil
		}
		src := c.w.cells[m.Source].fence
		if src.Move != string(m.ID) || !src.Capture || (src.State != fence.Active && src.State != fence.Frozen) {
			return conflict(src)
		}
		c.rows = append([]int(nil), c.w.cells[m.Source].rows...)
		got = transfer.Received{Round: got.Round + 1, Snapshot: fmt.Sprint(len(c.rows)), Final: final}
		c.received[string(m.ID)] = got
		return nil
	})
	return got, err
}

// Coming is nothing: no round takes any time.
func (c *fakeCell) Coming(context.Context, transfer.Move) (transfer.Coming, error) {
	return transfer.Coming{}, nil
}

// awaitFreeze waits, as a cell does, until the source does not serve the tenant any more.
func (w *world) awaitFreeze(ctx context.Context, m transfer.Move) bool {
	for range 100 {
		w.mu.Lock()
		f := w.cells[m.Source].fence
		w.mu.Unlock()
		if f.State != fence.Active || f.Epoch != m.Base {
			return true
		}
		select {
		case <-time.After(time.Millisecond): // virtual
		case <-ctx.Done():
			return false
		}
	}
	return false
}

func (c *fakeCell) Verify(context.Context, transfer.Move) ([]transfer.Finding, error) {
	return nil, c.w.call(func() error { return nil })
}

func (c *fakeCell) Activate(_ context.Context, m transfer.Move) error {
	return c.w.call(func() error {
		f := c.fence
		return c.to(f.State == fence.Incoming && f.Move == string(m.ID) && f.Epoch == m.Base+1 && c.received[string(m.ID)].Final,
			fence.Fence{State: fence.Active, Epoch: m.Base + 1, Move: string(m.ID), Capture: true})
	})
}

func (c *fakeCell) Retire(_ context.Context, m transfer.Move) error {
	return c.w.call(func() error {
		f := c.fence
		return c.to(f.State == fence.Frozen && f.Move == string(m.ID) && f.Epoch == m.Base+1,
			fence.Fence{State: fence.Moved, Epoch: m.Base + 1, Move: string(m.ID), MovedTo: m.Target})
	})
}

func (c *fakeCell) Release(_ context.Context, m transfer.Move) error {
	return c.w.call(func() error {
		f, keeper := c.fence, string(m.ID)
		if m.Undoes != "" {
			keeper = string(m.Undoes)
		}
		if (f.State == fence.Active && f.Epoch == m.Base) || (f.State == fence.Frozen && f.Epoch == m.Base+1 && f.Move == string(m.ID)) {
			c.fence = fence.Fence{Tenant: 1, State: fence.Active, Epoch: m.Base + 2, Move: keeper, Capture: m.Undoes != ""}
		}
		if c.fence.State != fence.Active || c.fence.Epoch != m.Base+2 {
			return conflict(c.fence)
		}
		return nil
	})
}

func (c *fakeCell) Forget(context.Context, transfer.Move) error {
	return c.w.call(func() error { return nil })
}

func (c *fakeCell) Discard(_ context.Context, m transfer.Move) error {
	return c.w.call(func() error {
		f := c.fence
		over := f.Epoch < m.Base+1 && (f.Epoch == 0 || f.State == fence.Moved || f.State == fence.Incoming)
		if over || f.State == fence.Incoming && f.Move == string(m.ID) && f.Epoch == m.Base+1 {
			keeper := string(m.ID)
			if m.Undoes != "" {
				keeper = string(m.Undoes)
			}
			c.fence = fence.Fence{Tenant: 1, State: fence.Moved, Epoch: m.Base + 1, Move: keeper, MovedTo: m.Source}
		}
		return nil
	})
}

func (c *fakeCell) Purge(_ context.Context, m transfer.Move) (int64, error) {
	return 0, c.w.call(func() error {
		if f := c.fence; f.State != fence.Moved || f.Move != string(m.ID) || f.Epoch != m.Base+1 {
			return conflict(f)
		}
		c.rows = nil
		return nil
	})
}

func (c *fakeCell) Disarm(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.w.call(func() error {
		if c.fence.Move == string(m.ID) && c.fence.State == fence.Active {
			c.fence.Capture = false
		}
		return nil
	})
}

func (c *fakeCell) Unchanged(context.Context, transfer.Move) (transfer.Part, error) {
	return transfer.Part{}, c.w.call(func() error { return nil })
}

func (c *fakeCell) Kept(context.Context, transfer.Move, map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	c.w.compared.Add(1)
	var d map[string]transfer.Digest
	if c.w.damaged.Load() {
		d = map[string]transfer.Digest{"projects.task": {Rows: 1}}
	}
	return d, c.w.call(func() error { return nil })
}

// check says what is wrong with the world when the move is over: the directory's
// owner, and nobody else, serves, and holds every acknowledged write once.
func (w *world) check(p directory.Placement) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.broken) > 0 {
		return errors.New(w.broken[0])
	}
	for id, c := range w.cells {
		if (id == p.Cell) != (c.fence.State == fence.Active) {
			return fmt.Errorf("the directory says %s, the fence of %s is %s", p.Cell, id, c.fence.State)
		}
	}
	owner := w.cells[p.Cell]
	if owner.fence.Epoch != p.Epoch {
		return fmt.Errorf("the directory says epoch %d, the owner %d", p.Epoch, owner.fence.Epoch)
	}
	if fmt.Sprint(owner.rows) != fmt.Sprint(w.acked) {
		return fmt.Errorf("acknowledged %d writes, the owner has %d", len(w.acked), len(owner.rows))
	}
	return nil
}
