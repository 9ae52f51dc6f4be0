package benchmove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// lookEvery is the pause between two looks at a move: often enough to go on at
// once, and rare enough not to be a load on the directory in the pause.
const lookEvery = 20 * time.Millisecond

// moveTimeout bounds one move with all its attempts.
const moveTimeout = 5 * time.Minute

// report is the part of the mover's report that the figures need.
type report struct {
	Rows  int64         `json:"rows"`
	Pause time.Duration `json:"pause_ns"`
}

// A moved is how a move went.
type moved struct {
	directory.Move
	report
	aborted int           // attempts that a bound took back before this one
	took    time.Duration // from asking for it to its watch, all attempts
}

// attempts bounds how often a move that a bound aborts is asked for again.
const attempts = 25

// errBound says that a move was aborted by a bound: it may be asked for again.
var errBound = errors.New("aborted by a bound")

// again makes a move again at once where a bound has aborted it, and counts that: the
// product would wait between two attempts, which measures nothing.
func again(move func(aborted int) (moved, error)) (moved, error) {
	for aborted := 0; ; aborted++ {
		out, err := move(aborted)
		out.aborted = aborted
		if !errors.Is(err, errBound) || aborted+1 >= attempts {
			return out, err
		}
	}
}

// move makes a move and waits for its watch. A move that ends otherwise is an error.
func (w *world) move(ctx context.Context, n directory.NewMove) (moved, error) {
	began := time.Now()
	n.Attempts = 1
	out, err := again(func(int) (moved, error) {
		m, err := w.begin(ctx, n)
		if err != nil {
			return moved{}, err
		}
		return w.finish(ctx, m)
	})
	out.took = time.Since(began)
	return out, err
}

func (w *world) begin(ctx context.Context, n directory.NewMove) (directory.Move, error) {
	var m directory.Move
	if err := w.console.Call(ctx, http.MethodPost, "/v1/moves", n, &m); err != nil {
		return m, fmt.Errorf("move tenant %d to %s: %w", n.Tenant, n.Target, err)
	}
	return m, nil
}

// finish follows a move to its watch.
func (w *world) finish(ctx context.Context, m directory.Move) (moved, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	var out moved
	err := loadtest.Until(ctx, fmt.Sprintf("move %s of tenant %d", m.ID, m.Tenant), lookEvery, func(ctx context.Context) (bool, error) {
		now, err := w.console.Move(ctx, m.ID)
		switch {
		case err != nil:
			return false, err
		case now.Phase == directory.Watching:
			out.Move = now
			return true, nil
		case now.Phase == directory.Aborted && now.Transient:
			return false, fmt.Errorf("%w: %s", errBound, now.Error)
		case now.Phase.Ended():
			return false, fmt.Errorf("it is %s: %s", now.Phase, now.Error)
		}
		return false, nil
	})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(out.Report, &out.report); err != nil {
		return out, fmt.Errorf("read the report of move %s: %w", out.ID, err)
	}
	return out, nil
}

// wish asks something of a move and waits until it has reached a phase.
func (w *world) wish(ctx context.Context, id directory.MoveID, wish directory.Wish, want directory.Phase) error {
	if err := w.console.Wish(ctx, id, wish); err != nil {
		return err
	}
	if want == "" {
		return nil
	}
	return w.await(ctx, id, want)
}

// await waits until a move is in a phase.
func (w *world) await(ctx context.Context, id directory.MoveID, want directory.Phase) error {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	return loadtest.Until(ctx, fmt.Sprintf("move %s to be %s", id, want), lookEvery, func(ctx context.Context) (bool, error) {
		m, err := w.console.Move(ctx, id)
		if err == nil && m.Phase != want && m.Phase.Ended() {
			err = fmt.Errorf("it is %s: %s", m.Phase, m.Error)
		}
		return m.Phase == want, err
	})
}

// complete ends a move's watch: the source's copy is removed.
func (w *world) complete(ctx context.Context, id directory.MoveID) error {
	return w.wish(ctx, id, directory.Complete, directory.Completed)
}
