package directory_test

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestASwitchIsNotTakenBack: a move that waited and was let go on is held no more once its
// freeze is recorded, and an operator who wants that hears so; it can still be cancelled.
func TestASwitchIsNotTakenBack(t *testing.T) {
	t.Parallel()
	for phase, kind := range map[directory.Phase]problem.Kind{directory.CaughtUp: "", directory.Frozen: problem.Conflict, directory.Staged: problem.Conflict} {
		m := directory.Move{ID: "mv_1", Phase: phase, StopAt: directory.CaughtUp, Wish: directory.Switch}
		if _, err := m.Ask(directory.Proceed, time.Now()); err == nil != (kind == "") || err != nil && problem.KindOf(err) != kind {
			t.Errorf("%s: got %v, want %q", phase, err, kind)
		}
		if _, err := m.Ask(directory.Cancel, time.Now()); err != nil {
			t.Errorf("%s: cancel: got %v", phase, err)
		}
	}
}
