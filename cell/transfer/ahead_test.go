package transfer_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

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

// TestALongLastRoundIsMadeOnce: of a round that is longer than may be kept so much is
// made ahead, and the rest, of the same snapshot, as it is read.
func TestALongLastRoundIsMadeOnce(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.source.KeepAhead(time.Minute)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	have, err := b.target.Received(ctx, step)
	must(t, err)
	must(t, a.do(t, mover, 1, `UPDATE app.thing SET t = pg_catalog.repeat('long ', 1 << 18)`)) // 5 rows of 1.3 MB
	must(t, a.Freeze(ctx, there, wait))
	want := contents(t, a, mover)

	a.source.Ahead(ctx, there.ID, mover)
	if !a.source.AwaitAheadFull(ctx, there.ID) {
		t.Fatal("nothing was made ahead")
	}
	// From now on nothing can be made: what comes was there, or under way.
	_, err = a.owner.Exec(ctx, `UPDATE cell.fence SET capture = false WHERE tenant_id = $1`, mover)
	must(t, err)
	var made bytes.Buffer
	must(t, a.source.Send(ctx, &made, there.ID, mover, have.Snapshot))
	if made.Len() < 2*transfer.AheadBytes {
		t.Errorf("a round of %d bytes tries nothing", made.Len())
	}
	if _, err := b.target.Apply(ctx, step, true, &made); err != nil {
		t.Fatal(err)
	}
	same(t, "a long round", contents(t, b, mover), want)
}

// TestARoundThatNobodyAsksForIsGivenUp: it holds neither a connection nor memory.
func TestARoundThatNobodyAsksForIsGivenUp(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.source.KeepAhead(time.Millisecond)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	must(t, a.do(t, mover, 1, `UPDATE app.thing SET t = pg_catalog.repeat('long ', 1 << 18)`))
	must(t, a.Freeze(ctx, there, wait))
	a.source.Ahead(ctx, there.ID, mover)
	for a.source.AheadIs(there.ID) || a.mover.Stat().AcquiredConns() > 0 {
		select {
		case <-ctx.Done():
			t.Fatal("the round is kept")
		case <-time.After(time.Millisecond):
		}
	}
}
