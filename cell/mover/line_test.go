package mover_test

import (
	"context"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A line is what one mover has to do with the directory and the cells. Answers get lost, and calls, and some come
// late; and at one of its calls the mover meets its end.
type line struct {
	*directorytest.Memory
	w    *world
	end  end
	die  context.CancelFunc   // of its context
	pace func() time.Duration // how long the next call takes

	mu    sync.Mutex
	calls int
	told  map[directory.MoveID]directory.Move // the leases that it has, or believes to have
}

// An end is how a mover ends, with the call of that number. 0 is no end.
type end struct {
	Call int
	How  manner
	Done bool // that call still has its effect
}

type manner int

const (
	letsGo   manner = iota // its context ends, and it gives its leases back
	perishes               // nothing comes of it any more: its leases end by time
	believes               // it extends no lease any more, takes each for extended, and works on: by the clock, or suspended again and again
	deafened               // so, and the directory does not hear it and is not heard
	manners
)

// ended reports whether the mover has met its end, with this call or before, where it is one of those.
func (l *line) ended(hows ...manner) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, how := range hows {
		if l.end.Call > 0 && l.calls >= l.end.Call && l.end.How == how {
			return true
		}
	}
	return false
}

// pass makes a call.
func (l *line) pass(do func() error) error {
	time.Sleep(l.pace()) // virtual
	l.mu.Lock()
	l.calls++
	last, gone := l.calls == l.end.Call, l.end.Call > 0 && l.calls > l.end.Call
	l.mu.Unlock()
	dies := l.end.How == letsGo || l.end.How == perishes
	if gone && l.end.How == perishes {
		return errNet
	}
	if !last || !dies {
		return do()
	}
	l.die()
	if l.end.Done {
		_ = do()
	}
	return errNet
}

// ask makes a call to the directory that changes something; it may arrive when ctx is over, but is not made then.
func (l *line) ask(ctx context.Context, do func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	arrives := func() error { return do(context.WithoutCancel(ctx)) }
	return l.pass(func() error {
		if l.ended(deafened) {
			return errNet
		}
		switch l.w.fault() {
		case lost:
			return errNet
		case answerLost:
			_ = arrives() // done, and nobody knows
			return errNet
		case late:
			l.w.mu.Lock()
			defer l.w.mu.Unlock()
			l.w.late = append(l.w.late, func() { _ = arrives() })
			return errNet
		}
		return arrives()
	})
}

func (l *line) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (m directory.Move, err error) {
	lease := func(ctx context.Context) (err error) {
		m, err = l.Memory.LeaseMove(ctx, id, holder, ttl)
		return err
	}
	switch anyOne := id == "" || id == directory.InPause; {
	case anyOne && l.ended(perishes, deafened):
		return m, errNet
	case anyOne: // to find nothing counts for nothing: a mover that waits does so all the time
		if err = lease(ctx); err == nil {
			err = l.ask(ctx, func(context.Context) error { return nil })
		}
	case l.ended(believes, deafened):
		return l.belief(id, ttl)
	default:
		err = l.ask(ctx, lease)
	}
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told[m.ID] = m
	}
	return m, err
}

// belief is an extension that was not made.
func (l *line) belief(id directory.MoveID, ttl time.Duration) (directory.Move, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok := l.told[id]
	if !ok || ttl == 0 {
		return m, errNet
	}
	m.Leased = time.Now().Add(ttl)
	return m, nil
}

func (l *line) RestMove(ctx context.Context, m directory.Move, d time.Duration) error {
	return l.ask(ctx, func(ctx context.Context) error { return l.Memory.RestMove(ctx, m, d) })
}

func (l *line) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	return l.ask(ctx, func(ctx context.Context) error { return l.Memory.Advance(ctx, m, from) })
}

func (l *line) Move(ctx context.Context, id directory.MoveID) (m directory.Move, err error) {
	err = l.pass(func() error {
		if l.ended(deafened) || l.w.fault() != none {
			return errNet
		}
		m, err = l.Memory.Move(ctx, id)
		return err
	})
	return m, err
}
