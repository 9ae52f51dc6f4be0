package mover

import (
	"context"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
)

// unended is between why a move is aborted and why that does not come to its end, where the record says both.
const unended = "; not ended yet: "

// waitsFor notes why the move does not go on.
func (w *work) waitsFor(why string) {
	if w.move.Phase == directory.Aborting {
		aborted, _, _ := strings.Cut(w.move.Error, unended)
		why = aborted + unended + why
	}
	w.move.Error = why
}

// tellAfter is how often an action fails in a pause before the record is told: until
// then to try again is worth more.
const tellAfter = 10

// tell records why the move does not go on, once for each text, so that who asks the
// directory knows. The next phase clears it. A directory that does not answer is told
// the next time; one that refuses does not end the work: keep and refresh know whose
// the lease is.
func (w *work) tell(ctx context.Context, failed int) {
	switch p := w.move.Phase; {
	case w.move.Error == w.told, w.pausing() && failed < tellAfter:
		return
	case p == directory.Watching && (w.move.Wish == directory.Verify || !w.move.WatchOver(time.Now())): // what is recorded then is a comparison
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if w.dir.Advance(ctx, w.move, w.move.Phase) == nil {
		w.told = w.move.Error
	}
}
