package mover

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A dryCell is the executor of a rehearsal: the cell is asked what changes nothing there, and the
// rest is noted. It embeds no Cell, so that an effect that comes to the protocol cannot pass through
// it unseen (TestARehearsalChangesNothing).
type dryCell struct {
	tape *tape
	id   directory.CellID
	real Cell
}

// Preflight measures for a while only: what else the cells say does not depend on it.
func (c dryCell) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	asking, cancel := ctx, func() {}
	if measure {
		asking, cancel = context.WithTimeout(ctx, measureTime)
	}
	r, err := c.real.Preflight(asking, m, measure)
	unsized := measure && err != nil && asking.Err() != nil && ctx.Err() == nil
	cancel()
	if unsized {
		r, err = c.real.Preflight(ctx, m, false)
	}
	if err != nil {
		c.tape.note(c.id, "preflight", true, "%v", err)
		return r, err
	}
	c.tape.preflight(c.id, r, measure, unsized)
	if unsized {
		r.Bytes = math.MaxInt64 / 2 // it is none of the small ones
	}
	return r, nil
}

// Fence is asked by the loop to see whether the cell answers, and is no step.
func (c dryCell) Fence(ctx context.Context, t directory.TenantID) (fence.Fence, error) {
	return c.real.Fence(ctx, t)
}

// Coming is nothing: no round of a rehearsal takes long.
func (dryCell) Coming(context.Context, transfer.Move) (transfer.Coming, error) {
	return transfer.Coming{}, nil
}

// Reserve refuses what the cell itself would, by cell.reserve.
func (c dryCell) Reserve(ctx context.Context, m transfer.Move) error {
	c.tape.note(c.id, "reserve", false, "await the tenant at epoch %d", m.Base+1)
	f, err := c.real.Fence(ctx, m.Tenant)
	if err != nil {
		return err
	}
	c.tape.mu.Lock()
	c.tape.found.Whole = m.Undoes == ""
	c.tape.mu.Unlock()
	kept := f.State == fence.Moved && f.Move == string(m.Undoes)
	free := f.Epoch == 0 || (f.State == fence.Moved || f.State == fence.Incoming) && f.Epoch < m.Base+1
	if !free || m.Undoes != "" && !kept {
		return refusedBy(f, "reserve")
	}
	return nil
}

// Arm refuses what the cell itself would, by cell.arm.
func (c dryCell) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	c.tape.note(c.id, "arm", false, "note the key of each row that changes, after at most %v of waiting for the tenant's transactions", wait)
	f, err := c.real.Fence(ctx, m.Tenant)
	if err != nil {
		return err
	}
	fresh := f.Epoch == 0 && m.Base == 1 // the first request would admit it
	if !fresh && (f.State != fence.Active || f.Epoch != m.Base) {
		return refusedBy(f, "arm")
	}
	return nil
}

func refusedBy(f fence.Fence, verb string) error {
	return problem.New(problem.Conflict, "%s tenant %d: its fence is %s at epoch %d", verb, f.Tenant, f.State, f.Epoch)
}

// Pull takes a round that nobody measures. As with a cell, the last one comes when the source is frozen.
func (c dryCell) Pull(ctx context.Context, m transfer.Move, _ string, final bool) (transfer.Received, error) {
	t := c.tape
	if final {
		select {
		case <-t.frozen:
		case <-ctx.Done():
			return transfer.Received{}, problem.Wrap(problem.Unavailable, ctx.Err(), "not frozen")
		}
	}
	t.mu.Lock()
	copies := t.rounds == 0 && t.found.Whole
	t.rounds++
	got := transfer.Received{Round: t.rounds, Final: final}
	rows, bytes, much := t.found.Rows, t.found.Bytes, t.found.much()
	t.mu.Unlock()
	switch {
	case copies:
		got.Round = 0
		got.Totals = transfer.Totals{Rows: rows, Bytes: bytes}
		t.note(c.id, "pull", false, "copy all rows of one snapshot of %s, and compare them by hash: %s", m.Source, much)
	case final:
		t.note(c.id, "pull", false, "take the last round from %s, durably", m.Source)
	default:
		t.note(c.id, "pull", false, "take a round from %s: what has changed since the one before", m.Source)
	}
	return got, nil
}

func (c dryCell) Freeze(_ context.Context, m transfer.Move, wait time.Duration) error {
	c.tape.note(c.id, "freeze", false, "serve the tenant no more, at epoch %d, after at most %v of waiting for its transactions: the pause begins", m.Base+1, wait)
	c.tape.freeze()
	return nil
}

// The other effects are noted and succeed.

func (c dryCell) Verify(context.Context, transfer.Move) ([]transfer.Finding, error) {
	c.tape.note(c.id, "verify", false, "check foreign keys, sequences and the events' order of what has come")
	return nil, nil
}

func (c dryCell) Activate(_ context.Context, m transfer.Move) error {
	c.tape.note(c.id, "activate", false, "serve the tenant at epoch %d: the pause is over", m.Base+1)
	return nil
}

func (c dryCell) Retire(_ context.Context, m transfer.Move) error {
	c.tape.note(c.id, "retire", false, "point to %s, and keep the rows for the way back", m.Target)
	return nil
}

func (c dryCell) Release(_ context.Context, m transfer.Move) error {
	c.tape.note(c.id, "release", false, "serve the tenant on, at epoch %d", m.Base+2)
	return nil
}

func (c dryCell) Forget(context.Context, transfer.Move) error {
	c.tape.note(c.id, "forget", false, "forget the keys that it has noted")
	return nil
}

func (c dryCell) Discard(context.Context, transfer.Move) error {
	c.tape.note(c.id, "discard", false, "await the tenant no more")
	return nil
}

func (c dryCell) Purge(context.Context, transfer.Move) (int64, error) {
	c.tape.note(c.id, "purge", false, "remove what it has of the tenant")
	return 0, nil
}

func (c dryCell) Disarm(context.Context, transfer.Move, time.Duration) error {
	c.tape.note(c.id, "disarm", false, "note changes no more")
	return nil
}

// No rehearsal goes beyond the switch, where the copies are compared.

func (c dryCell) Unchanged(context.Context, transfer.Move) (transfer.Part, error) {
	return transfer.Part{}, errNotRehearsed
}

func (c dryCell) Kept(context.Context, transfer.Move, map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	return nil, errNotRehearsed
}

var errNotRehearsed = problem.New(problem.Conflict, "a comparison is not rehearsed")
