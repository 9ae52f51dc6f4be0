package mover

import (
	"context"
	"errors"
	"time"

	"github.com/cellway/cellway/directory"
)

// tellAfter is how often an action fails in a pause before the record is told: until
// then to try again is worth more.
const tellAfter = 10

// tell records why the move does not go on, once for each text, so that who asks the
// directory knows. The next phase clears it. It reports false where the lease is lost;
// a directory that does not answer is told the next time.
func (w *work) tell(ctx context.Context, failed int) bool {
	switch p := w.move.Phase; {
	case w.move.Error == w.told, w.pausing() && failed < tellAfter:
		return true
	case p == directory.Aborting: // there the record says why it is aborted
		return true
	case p == directory.Watching && w.move.Wish != directory.Complete: // what is recorded then is a comparison
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := w.dir.Advance(ctx, w.move, w.move.Phase)
	if err == nil {
		w.told = w.move.Error
	}
	return !errors.Is(lostOr(err), errLost)
}
