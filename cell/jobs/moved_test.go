package jobs

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cellway/cellway/cell/store"
)

// What a move has cost a job is none of the attempts that it was asked for with.
func TestAMoveIsNoAttempt(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	w.enqueue(t, 1, New{Kind: kind, Payload: "a", Attempts: 2})
	first := w.runner(t, quick(), noting)
	j, err := first.claim(t.Context(), 1, 1)
	if err != nil || j == nil {
		t.Fatalf("claim: %v, %v", j, err)
	}
	w.standStill(t, 1, 1, 2)
	if _, err := w.store.DB().Exec(t.Context(), `SELECT cell.activate(1, 2, 2, 'test', 1000)`); err != nil {
		t.Fatal(err)
	}
	first.settle(t.Context(), 1, 1, *j, first.do(t.Context(), 1, 1, *j)) // the fence refuses
	var failed atomic.Bool
	start(t, w.runner(t, quick(), Kind{Name: kind, Handle: func(ctx context.Context, tx *store.Tx, j Job) error {
		if failed.CompareAndSwap(false, true) {
			return errBoom
		}
		return effect(ctx, tx, j)
	}}))
	eventually(t, "its end", func() bool {
		s := w.states(t, 1)
		return slices.Equal(s, []string{"done"}) || slices.Equal(s, []string{"dead"})
	})
	if got := w.strings(t, `SELECT what || attempt FROM fx.log`); !slices.Equal(got, []string{"a3"}) {
		t.Errorf("got %q, want the effect of the second attempt that was made, the third that was begun", got)
	}
}
