package mover_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A world is two cells without databases and the faults between them and the
// movers. Each call to a cell meets at most one fault: it is lost, its answer is
// lost, or it is late, done again after others. One tenant writes all the time: each
// write has a number and is accepted by the cell whose fence lets it in.
type world struct {
	mu       sync.Mutex
	cells    map[directory.CellID]*fakeCell
	fault    func() fault
	next     int             // the number of the newest write
	want     map[int]int     // the rows that the acknowledged writes have made
	epoch    directory.Epoch // of the newest write
	broken   []string        // what must never be
	compared atomic.Int32
	damaged  atomic.Bool     // the copy that is kept
	late     []func()        // calls of movers that were taken for lost, still to arrive
	pick     func(n int) int // which of n late calls arrives
}

type fault int

const (
	none fault = iota
	lost
	answerLost
	late
	faults
)

func newWorld(fault func() fault) *world {
	w := &world{fault: fault, cells: map[directory.CellID]*fakeCell{}, want: map[int]int{}, pick: func(int) int { return 0 }}
	for _, id := range []directory.CellID{"a", "b"} {
		w.cells[id] = newCell(w, id)
	}
	w.cells["a"].fence = fence.Fence{Tenant: 1, Epoch: 1, State: fence.Active}
	return w
}

func newCell(w *world, id directory.CellID) *fakeCell {
	return &fakeCell{w: w, id: id, stored: &stored{rows: map[int]int{}, received: map[string]transfer.Received{}}}
}

// write is one request of the tenant at each cell that would take it. It makes a row, changes one of three others and
// now and then deletes one.
func (w *world) write() {
	active := 0
	for _, c := range w.cells {
		if c.fence.State != fence.Active {
			continue
		}
		if active++; c.fence.Epoch < w.epoch {
			w.broken = append(w.broken, fmt.Sprintf("%s serves the tenant at epoch %d, after %d", c.id, c.fence.Epoch, w.epoch))
		}
		w.epoch = c.fence.Epoch
		w.next++
		n := w.next
		c.tx++
		c.put(w.want, n, n)
		c.put(w.want, -1-n%3, n)
		if n%4 == 0 {
			c.put(w.want, n/2, 0)
		}
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
		w.deliver()
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

// deliver lets one late call arrive.
func (w *world) deliver() {
	i := w.pick(len(w.late))
	call := w.late[i]
	w.late = slices.Delete(w.late, i, i+1)
	call()
}

// arrive lets every call arrive that is still under way when the moves are over: it must change nothing.
func (w *world) arrive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.late) > 0 {
		before := w.state()
		w.deliver()
		if after := w.state(); after != before {
			return fmt.Errorf("a call that arrives when the move is over has changed %s to %s", before, after)
		}
		w.write()
	}
	return nil
}

// state is all that a step may change, but for keys that were noted.
func (w *world) state() string {
	a, b := w.cells["a"], w.cells["b"]
	return fmt.Sprint(a.fence, a.received, a.rows, b.fence, b.received, b.rows)
}

// check says what is wrong with the world when the move is over: the directory's
// owner, and nobody else, serves, and holds what every acknowledged write has made.
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
	if !maps.Equal(owner.rows, w.want) {
		return fmt.Errorf("of %d acknowledged writes there are the rows %v, the owner has %v", w.next, w.want, owner.rows)
	}
	return nil
}
