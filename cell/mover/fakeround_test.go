package mover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

func (c *fakeCell) Pull(ctx context.Context, m transfer.Move, _ string, final bool) (got transfer.Received, err error) {
	if final && !c.w.awaitFreeze(ctx, m) {
		return got, problem.New(problem.Unavailable, "not frozen yet")
	}
	err = c.call(func() error {
		if err := c.is(fence.Incoming, m.Base+1, m.ID); err != nil {
			return err
		}
		had, begun := c.received[string(m.ID)]
		if !begun {
			had.Round = -1
		}
		if got = had; had.Final {
			return nil
		}
		src := c.w.cells[m.Source]
		switch f := src.fence; {
		case f.Move != string(m.ID) || !f.Capture || f.State != fence.Active && f.State != fence.Frozen:
			return conflict(f)
		case final && f.State != fence.Frozen:
			return problem.New(problem.Unavailable, "the tenant may still change at the source")
		}
		c.round(src, had.Snapshot)
		if !maps.Equal(c.rows, src.rows) {
			c.w.broken = append(c.w.broken, fmt.Sprintf("round %d of %s leaves other rows at %s than %s has", had.Round+1, m.ID, c.id, src.id))
		}
		got = transfer.Received{Round: had.Round + 1, Snapshot: strconv.Itoa(src.tx), Final: final}
		c.keep(string(m.ID), got)
		return nil
	})
	return got, err
}

// round brings all rows of the source, or those whose keys were noted since a snapshot.
func (c *fakeCell) round(src *fakeCell, since string) {
	if since == "" {
		c.rows = maps.Clone(src.rows)
		return
	}
	seen, _ := strconv.Atoi(since) // all that was noted is later than Everything
	for _, n := range src.noted {
		if n.tx <= seen {
			continue
		}
		if v, ok := src.rows[n.key]; ok {
			c.rows[n.key] = v
		} else {
			delete(c.rows, n.key)
		}
	}
}

// Coming is nothing: no round takes any time.
func (c *fakeCell) Coming(context.Context, transfer.Move) (transfer.Coming, error) {
	return transfer.Coming{}, nil
}

// awaitFreeze waits, as a cell does, until the source does not serve the tenant any more. It looks first when the
// mover has done what it does at once, so that a story does not depend on which of the two is quicker.
func (w *world) awaitFreeze(ctx context.Context, m transfer.Move) bool {
	for range 100 {
		select {
		case <-time.After(time.Millisecond): // virtual
		case <-ctx.Done():
			return false
		}
		w.mu.Lock()
		f := w.cells[m.Source].fence
		w.mu.Unlock()
		if f.State != fence.Active || f.Epoch != m.Base {
			return true
		}
	}
	return false
}

func (c *fakeCell) Verify(context.Context, transfer.Move) ([]transfer.Finding, error) {
	return nil, c.call(func() error { return nil })
}

func (c *fakeCell) Unchanged(context.Context, transfer.Move) (transfer.Part, error) {
	return transfer.Part{}, c.call(func() error { return nil })
}

func (c *fakeCell) Kept(context.Context, transfer.Move, map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	c.w.compared.Add(1)
	var d map[string]transfer.Digest
	if c.w.damaged.Load() {
		d = map[string]transfer.Digest{"projects.task": {Rows: 1}}
	}
	return d, c.call(func() error { return nil })
}
