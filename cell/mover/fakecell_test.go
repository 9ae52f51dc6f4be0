package mover_test

import (
	"context"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A fakeCell keeps the fence and the rows of one tenant, by the rules of cell/store/migrations as 00029 leaves them:
// the steps are of 00010_move.sql, changed by 00011 (enter_move, arm, release, disarm), 00025 (discard) and 00029
// (reserve); what a client asks for besides, as cell/client has it. No database is ever promoted or restored here, so
// nothing is suspect and no copy void.
type fakeCell struct {
	w    *world
	id   directory.CellID
	line *line // by which a mover reaches it; nil is without an end
	*stored
}

// stored is what a cell's database has of the tenant.
type stored struct {
	fence    fence.Fence
	rows     map[int]int
	noted    []note                       // keys that were changed while the fence said capture
	tx       int                          // transactions so far; a snapshot is such a number
	received map[string]transfer.Received // by move_id; one at most, as the table has one for a tenant
	fresh    bool                         // that one is of a reservation: no round is here yet
}

type note struct{ key, tx int }

// by is the cell as the mover reaches it that has this line.
func (c *fakeCell) by(l *line) *fakeCell {
	return &fakeCell{w: c.w, id: c.id, line: l, stored: c.stored}
}

func (c *fakeCell) call(effect func() error) error {
	if c.line == nil {
		return c.w.call(effect)
	}
	return c.line.pass(func() error { return c.w.call(effect) })
}

// put changes a row here and in want; value 0 deletes it.
func (c *fakeCell) put(want map[int]int, key, value int) {
	for _, rows := range []map[int]int{c.rows, want} {
		if rows[key] = value; value == 0 {
			delete(rows, key)
		}
	}
	if c.fence.Capture {
		c.noted = append(c.noted, note{key, c.tx})
	}
}

// is is the conflict of a fence that a step did not make what it wants; move "" does not care whose it is.
func (c *fakeCell) is(want fence.State, at directory.Epoch, move directory.MoveID) error {
	if f := c.fence; f.State != want || f.Epoch != at || move != "" && f.Move != string(move) {
		return conflict(f)
	}
	return nil
}

func conflict(f fence.Fence) error {
	return problem.New(problem.Conflict, "the fence is %s at %d", f.State, f.Epoch)
}

// keeper is the move whose way back there is once m is aborted.
func keeper(m transfer.Move) string {
	if m.Undoes != "" {
		return string(m.Undoes)
	}
	return string(m.ID)
}

// keep makes r all that is here of rounds, under a move's name.
func (c *fakeCell) keep(name string, r transfer.Received) {
	c.received, c.fresh = map[string]transfer.Received{name: r}, false
}

func (c *fakeCell) Preflight(context.Context, transfer.Move, bool) (r transfer.Report, err error) {
	return transfer.Report{Fingerprint: "same", Bytes: 1 << 30}, c.call(func() error { return nil })
}

func (c *fakeCell) Reserve(_ context.Context, m transfer.Move) error {
	return c.call(func() error {
		f := c.fence
		kept := m.Undoes != "" && f.State == fence.Moved && f.Move == string(m.Undoes) && f.Epoch < m.Base+1
		if kept {
			since := transfer.Everything
			if r, ok := c.received["kept:"+string(m.Undoes)]; ok {
				since = r.Snapshot
			}
			c.keep(string(m.ID), transfer.Received{Snapshot: since})
			c.fresh = true
		}
		if c.fresh && m.Undoes == "" && c.is(fence.Incoming, m.Base+1, m.ID) == nil {
			delete(c.received, string(m.ID))
		}
		free := f.Epoch == 0 || (f.State == fence.Moved || f.State == fence.Incoming) && f.Epoch < m.Base+1
		if free && (m.Undoes == "" || kept) {
			c.fence = fence.Fence{Tenant: 1, State: fence.Incoming, Epoch: m.Base + 1, Move: string(m.ID)}
		}
		return c.is(fence.Incoming, m.Base+1, m.ID)
	})
}

func (c *fakeCell) Fence(context.Context, directory.TenantID) (f fence.Fence, err error) {
	err = c.call(func() error { f = c.fence; return nil })
	return f, err
}

func (c *fakeCell) Arm(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.call(func() error {
		if c.fence.Epoch == m.Base {
			c.forget()
		}
		if c.is(fence.Active, m.Base, "") == nil {
			c.fence.Capture, c.fence.Move = true, string(m.ID)
		}
		return c.is(fence.Active, m.Base, m.ID)
	})
}

// forget removes what was noted of a tenant that is not armed.
func (c *fakeCell) forget() {
	if !c.fence.Capture {
		c.noted = nil
	}
}

func (c *fakeCell) Freeze(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.call(func() error {
		if c.fence.Capture && c.is(fence.Active, m.Base, m.ID) == nil {
			c.fence.State, c.fence.Epoch = fence.Frozen, m.Base+1
		}
		return c.is(fence.Frozen, m.Base+1, m.ID)
	})
}

func (c *fakeCell) Activate(_ context.Context, m transfer.Move) error {
	return c.call(func() error {
		if c.is(fence.Incoming, m.Base+1, m.ID) == nil && c.received[string(m.ID)].Final {
			c.fence = fence.Fence{Tenant: 1, State: fence.Active, Epoch: m.Base + 1, Move: string(m.ID), Capture: true}
		}
		return c.is(fence.Active, m.Base+1, "")
	})
}

func (c *fakeCell) Retire(_ context.Context, m transfer.Move) error {
	return c.call(func() error {
		if c.is(fence.Frozen, m.Base+1, m.ID) == nil {
			c.fence = fence.Fence{Tenant: 1, State: fence.Moved, Epoch: m.Base + 1, Move: string(m.ID), MovedTo: m.Target}
		}
		return c.is(fence.Moved, m.Base+1, m.ID)
	})
}

func (c *fakeCell) Release(_ context.Context, m transfer.Move) error {
	return c.call(func() error {
		if c.is(fence.Active, m.Base, "") == nil || c.is(fence.Frozen, m.Base+1, m.ID) == nil {
			c.fence = fence.Fence{Tenant: 1, State: fence.Active, Epoch: m.Base + 2, Move: keeper(m), Capture: m.Undoes != ""}
		}
		return c.is(fence.Active, m.Base+2, "")
	})
}

func (c *fakeCell) Forget(context.Context, transfer.Move) error {
	return c.call(func() error { c.forget(); return nil })
}

func (c *fakeCell) Discard(_ context.Context, m transfer.Move) error {
	return c.call(func() error {
		f := c.fence
		over := f.Epoch < m.Base+1 && (f.Epoch == 0 || f.State == fence.Moved || f.State == fence.Incoming)
		if over || c.is(fence.Incoming, m.Base+1, m.ID) == nil {
			c.fence = fence.Fence{Tenant: 1, State: fence.Moved, Epoch: m.Base + 1, Move: keeper(m), MovedTo: m.Source}
			if r, ok := c.received[string(m.ID)]; ok && m.Undoes != "" {
				if r.Final {
					r.Snapshot = transfer.Everything
				}
				c.keep("kept:"+keeper(m), transfer.Received{Round: r.Round, Snapshot: r.Snapshot})
			}
		}
		if f := c.fence; f.State == fence.Incoming && f.Move == string(m.ID) {
			return conflict(f)
		}
		return nil
	})
}

func (c *fakeCell) Purge(_ context.Context, m transfer.Move) (int64, error) {
	return 0, c.call(func() error {
		if f := c.fence; f.State != fence.Moved || f.Move != string(m.ID) || f.Epoch < m.Base+1 {
			return conflict(f)
		}
		c.rows, c.received = map[int]int{}, map[string]transfer.Received{}
		c.forget()
		return nil
	})
}

func (c *fakeCell) Disarm(_ context.Context, m transfer.Move, _ time.Duration) error {
	return c.call(func() error {
		if f := c.fence; f.State == fence.Active && f.Move == string(m.ID) && f.Epoch >= m.Base+1 {
			c.fence.Capture, c.fence.Move = false, ""
		}
		c.forget()
		return nil
	})
}
