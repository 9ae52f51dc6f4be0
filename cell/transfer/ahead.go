package transfer

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// Bounds of what a source makes ahead: how much of a round it keeps, for how many
// moves, and for how long for a target that does not ask.
const (
	aheadBytes = 1 << 20
	aheadMoves = 64
	aheadLife  = time.Second
)

// An ahead makes the last round of a move at the source as soon as its tenant is
// frozen: the target's question finds it made, or being made. That is safe because
// a frozen tenant does not change, and the target takes a round only if it
// continues what it has. Which snapshot the target has is guessed: the last one
// that was sent. A wrong guess, or another process of the cell, costs nothing but
// the work: the round is then made when it is asked for.
type ahead struct {
	mu    sync.Mutex
	sent  map[directory.MoveID]string // the snapshot sent last
	ready map[directory.MoveID]*early
	life  time.Duration // aheadLife, unless a test says otherwise
}

// An early is a round that is made before it is asked for. What nobody reads yet is
// kept within bounds; then the making waits, and goes on as it is read.
type early struct {
	since  string
	ctx    context.Context // of the making
	cancel context.CancelFunc
	ends   *time.Timer   // gives up a round that nobody asks for
	pieces chan []byte   // made and not read; closed when the making has ended
	done   chan struct{} // closed when err is there
	err    error         // why there is no more; nil after a whole round
}

// Write keeps b, or waits until there is room.
func (e *early) Write(b []byte) (int, error) {
	done := 0
	for piece := range slices.Chunk(b, chunk) {
		select {
		case e.pieces <- slices.Clone(piece):
			done += len(piece)
		case <-e.ctx.Done():
			return done, e.ctx.Err()
		}
	}
	return done, nil
}

// copyTo writes the round to w while it is made. Where it fails and sent is false
// nothing was written.
func (e *early) copyTo(ctx context.Context, w io.Writer) (sent bool, err error) {
	defer e.cancel()
	defer context.AfterFunc(ctx, e.cancel)()
	for piece := range e.pieces {
		sent = true
		if _, err := w.Write(piece); err != nil {
			return sent, err
		}
	}
	return sent, e.err
}

// note remembers what was sent of a move.
func (a *ahead) note(move directory.MoveID, snapshot string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sent == nil {
		a.sent, a.ready = map[directory.MoveID]string{}, map[directory.MoveID]*early{}
	}
	if len(a.sent) >= aheadMoves {
		a.sent = map[directory.MoveID]string{}
	}
	a.sent[move] = snapshot
}

// begin makes the round of a move that follows what was sent, by stream.
func (a *ahead) begin(ctx context.Context, move directory.MoveID, stream func(ctx context.Context, e *early) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.sent[move]
	if !ok || a.ready[move] != nil || len(a.ready) >= aheadMoves {
		return
	}
	// It outlives the freeze's answer, which is why it is made.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &early{since: since, ctx: ctx, cancel: cancel, pieces: make(chan []byte, aheadBytes/chunk), done: make(chan struct{})}
	e.ends = time.AfterFunc(cmp.Or(a.life, aheadLife), func() { a.giveUp(move, e) })
	a.ready[move] = e
	delete(a.sent, move)
	go func() { // ends with ctx: when the round is given up, or its reader is gone
		e.err = stream(ctx, e)
		close(e.done)
		close(e.pieces)
	}()
}

// giveUp gives up a round that nobody has taken.
func (a *ahead) giveUp(move directory.MoveID, e *early) {
	e.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready[move] == e {
		delete(a.ready, move)
	}
}

// take is the round since a snapshot, if it was made ahead or is being made. It is
// given once; who takes it calls copyTo.
func (a *ahead) take(move directory.MoveID, since string) *early {
	a.mu.Lock()
	e := a.ready[move]
	delete(a.ready, move)
	a.mu.Unlock()
	if e == nil || !e.ends.Stop() {
		return nil
	}
	if e.since != since {
		e.cancel()
		return nil
	}
	return e
}
