package transfer_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// TestTheLastRoundIsMadeAhead: what is made at the freeze is what the target asks for
// after it, and is given once, and only to who has the snapshot that it continues.
func TestTheLastRoundIsMadeAhead(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	have, err := b.target.Received(ctx, step)
	must(t, err)
	must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = v + 1`))
	must(t, a.Freeze(ctx, there, wait))
	want := contents(t, a, mover)

	a.source.Ahead(ctx, there.ID, mover)
	if !a.source.AwaitAhead(there.ID) {
		t.Fatal("no round was made")
	}
	var other, made bytes.Buffer
	must(t, a.source.Send(ctx, &other, there.ID, mover, transfer.Everything)) // another guess: made anew
	a.source.Ahead(ctx, there.ID, mover)                                      // a repeated freeze
	if a.source.AwaitAhead(there.ID) {
		must(t, a.source.Send(ctx, &made, there.ID, mover, transfer.Everything))
		made.Reset()
	}

	// Once more, and then nothing can be made: what comes was there.
	must(t, a.source.Send(ctx, &made, there.ID, mover, have.Snapshot))
	if _, err := b.target.Apply(ctx, step, false, &made); err != nil {
		t.Fatal(err)
	}
	same(t, "a round made when asked for", contents(t, b, mover), want)
	have, err = b.target.Received(ctx, step)
	must(t, err)
	a.source.Ahead(ctx, there.ID, mover)
	if !a.source.AwaitAhead(there.ID) {
		t.Fatal("no last round was made")
	}
	_, err = a.owner.Exec(ctx, `UPDATE cell.fence SET capture = false WHERE tenant_id = $1`, mover)
	must(t, err)
	made.Reset()
	must(t, a.source.Send(ctx, &made, there.ID, mover, have.Snapshot))
	if err := a.source.Send(ctx, &other, there.ID, mover, have.Snapshot); !errors.Is(err, problem.Conflict) {
		t.Errorf("asked for again: got %v, want a conflict", err)
	}
	if _, err := b.target.Apply(ctx, step, true, &made); err != nil {
		t.Fatal(err)
	}
	same(t, "a round made ahead", contents(t, b, mover), want)
}
