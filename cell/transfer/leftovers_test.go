package transfer_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cellway/cellway/cell/client"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
)

// serve is a client of the cell's transfer endpoint, as movers have one.
func serve(t *testing.T, id directory.CellID, c *cell) *client.Client {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	must(t, err)
	server := httptest.NewServer((&transfer.Server{
		Steps: c.Steps, Source: c.source, Target: c.target, Purger: c.purger, Pool: c.mover,
		Keys: keys.Public(), Client: &http.Client{}, Log: slog.New(slog.DiscardHandler),
	}).Handler())
	t.Cleanup(server.Close)
	return client.New(client.Mover{ID: "mover-1", Keys: keys}, id, server.URL, server.Client())
}

func (c *cell) noted(t *testing.T) (n int) {
	t.Helper()
	must(t, c.owner.QueryRow(t.Context(), `SELECT count(*) FROM cell.dirty`).Scan(&n))
	return n
}

// TestNoNotedKeyIsLeft: the keys that a move noted are gone when it was aborted
// and when it was completed, at the source as well; those that a way back needs
// stay when the undo is aborted (I11).
func TestNoNotedKeyIsLeft(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	atA, atB := serve(t, "a", a), serve(t, "b", b)
	const change = `UPDATE app.counter SET v = v + 1`
	want := func(when string, c *cell, n int) {
		t.Helper()
		if got := c.noted(t); got != n {
			t.Errorf("%s: %d noted keys, want %d", when, got, n)
		}
	}

	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	must(t, atB.Reserve(ctx, m))
	must(t, atA.Arm(ctx, m, wait))
	must(t, a.do(t, mover, 1, change))
	want("armed", a, 1)
	must(t, atA.Release(ctx, m))
	must(t, atA.Forget(ctx, m))
	must(t, atB.Discard(ctx, m))
	want("aborted", a, 0)

	m = transfer.Move{ID: "mv_2", Tenant: mover, Base: 3, Source: "a", Target: "b"}
	must(t, b.Reserve(ctx, m))
	must(t, a.Arm(ctx, m, wait))
	must(t, a.do(t, mover, 3, change))
	steps(t, a, b, m)
	must(t, b.do(t, mover, 4, change))

	undo := transfer.Move{ID: "mv_3", Tenant: mover, Base: 4, Source: "b", Target: "a", Undoes: "mv_2"}
	must(t, atA.Reserve(ctx, undo))
	must(t, atB.Arm(ctx, undo, wait))
	must(t, atB.Release(ctx, undo))
	must(t, atB.Forget(ctx, undo))
	must(t, atA.Discard(ctx, undo))
	want("undo aborted", b, 1)

	if _, err := atA.Purge(ctx, m); err != nil {
		t.Error(err)
	}
	must(t, atB.Disarm(ctx, m, wait))
	want("completed, source", a, 0)
	want("completed, owner", b, 0)
}
