package transfer

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
)

// Bounds of what a source makes ahead: how much, for how many moves, how long it
// may take and how long it is kept for a target that does not ask.
const (
	aheadBytes = 4 << 20
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
}

// An early is a round that is made before it is asked for.
type early struct {
	since string
	done  chan struct{} // closed when b and err are there
	b     bytes.Buffer
	err   error
}

var errTooLong = errors.New("the round is too long to be kept")

// Write keeps b, within bounds.
func (e *early) Write(b []byte) (int, error) {
	if e.b.Len()+len(b) > aheadBytes {
		return 0, errTooLong
	}
	return e.b.Write(b)
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
	e := &early{since: since, done: make(chan struct{})}
	a.ready[move] = e
	delete(a.sent, move)
	// It outlives the freeze's answer, which is why it is made, but not for long.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), aheadLife)
	go func() {
		defer cancel()
		e.err = stream(ctx, e)
		close(e.done)
		<-ctx.Done()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.ready[move] == e {
			delete(a.ready, move)
		}
	}()
}

// take is the round since a snapshot, if it was made ahead. It is given once.
func (a *ahead) take(ctx context.Context, move directory.MoveID, since string) ([]byte, bool) {
	a.mu.Lock()
	e := a.ready[move]
	delete(a.ready, move)
	a.mu.Unlock()
	if e == nil || e.since != since {
		return nil, false
	}
	select {
	case <-e.done:
		return e.b.Bytes(), e.err == nil
	case <-ctx.Done():
		return nil, false
	}
}
