package mover

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// reach makes the client of a cell of the move. A cell is retired while a move needs it only
// where an operator has said that it is lost (cellctl cell remove --lost).
func (w *work) reach(c directory.Cell) Cell {
	if c.State == directory.Retired {
		return gone{c.ID}
	}
	return w.open(c)
}

// A gone stands for a cell whose database is gone for good: there is nothing of any tenant to
// be taken away, and everything else about it is refused.
type gone struct{ id directory.CellID }

func (g gone) refused() error {
	return problem.New(problem.Conflict, "cell %s is lost, and was removed", g.id)
}

func (g gone) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{}, g.refused()
}

func (g gone) Fence(context.Context, directory.TenantID) (fence.Fence, error) {
	return fence.Fence{}, g.refused()
}

func (g gone) Arm(context.Context, transfer.Move, time.Duration) error    { return g.refused() }
func (g gone) Freeze(context.Context, transfer.Move, time.Duration) error { return g.refused() }
func (g gone) Reserve(context.Context, transfer.Move) error               { return g.refused() }
func (g gone) Activate(context.Context, transfer.Move) error              { return g.refused() }

func (g gone) Kept(context.Context, transfer.Move, map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	return nil, g.refused()
}

func (g gone) Pull(context.Context, transfer.Move, string, bool) (transfer.Received, error) {
	return transfer.Received{}, g.refused()
}

func (g gone) Coming(context.Context, transfer.Move) (transfer.Coming, error) {
	return transfer.Coming{}, g.refused()
}

func (g gone) Verify(context.Context, transfer.Move) ([]transfer.Finding, error) {
	return nil, g.refused()
}

func (g gone) Unchanged(context.Context, transfer.Move) (transfer.Part, error) {
	return transfer.Part{}, g.refused()
}

// What takes away is done.

func (gone) Retire(context.Context, transfer.Move) error                { return nil }
func (gone) Release(context.Context, transfer.Move) error               { return nil }
func (gone) Forget(context.Context, transfer.Move) error                { return nil }
func (gone) Discard(context.Context, transfer.Move) error               { return nil }
func (gone) Disarm(context.Context, transfer.Move, time.Duration) error { return nil }
func (gone) Purge(context.Context, transfer.Move) (int64, error)        { return 0, nil }
