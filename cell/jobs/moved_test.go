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
	w.claimOfBefore(t, 2)
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
