package mover_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// An extending directory answers the extensions of a lease as refuse says, once a copy
// has begun.
type extending struct {
	*directorytest.Memory
	mu      sync.Mutex
	copying bool
	last    time.Time // when the last extension that succeeded was asked for
	refuse  func(ctx context.Context, last time.Time) error
	late    time.Duration // after which a lease that is taken is answered
}

func (d *extending) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	began := time.Now()
	d.mu.Lock()
	copying, last := d.copying, d.last
	d.mu.Unlock()
	if copying && id != "" && ttl > 0 {
		if err := d.refuse(ctx, last); err != nil {
			return directory.Move{}, err
		}
	}
	m, err := d.Memory.LeaseMove(ctx, id, holder, ttl)
	if err == nil && ttl > 0 {
		d.mu.Lock()
		d.last = began
		d.mu.Unlock()
	}
	if id == "" && err == nil {
		select {
		case <-time.After(d.late): // virtual
		case <-ctx.Done():
		}
	}
	return m, err
}

// A longCopy is a target whose copies take a minute. It notes for how long the lease had
// not been extended when a copy was ended.
type longCopy struct {
	*fakeCell
	dir     *extending
	unheard chan time.Duration
}

func (c longCopy) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if len(c.received) > 0 {
		return c.fakeCell.Pull(ctx, m, url, final)
	}
	c.dir.mu.Lock()
	c.dir.copying = true
	c.dir.mu.Unlock()
	select {
	case <-time.After(time.Minute): // virtual
		return c.fakeCell.Pull(ctx, m, url, final)
	case <-ctx.Done():
		c.dir.mu.Lock()
		defer c.dir.mu.Unlock()
		c.dir.copying = false
		c.unheard <- time.Since(c.dir.last)
		return transfer.Received{}, ctx.Err()
	}
}

// TestALeaseThatIsNotExtendedEndsTheWork: before the lease ends by itself, whether the
// directory refuses, fails or says nothing; a silence that is shorter ends nothing.
func TestALeaseThatIsNotExtendedEndsTheWork(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	down := func(context.Context, time.Time) error { return errNet }
	hangs := func(ctx context.Context, _ time.Time) error { <-ctx.Done(); return ctx.Err() }
	briefly := func(what func(context.Context, time.Time) error) func(context.Context, time.Time) error {
		return func(ctx context.Context, last time.Time) error {
			if time.Since(last) > ttl/4 {
				return nil
			}
			ctx, cancel := context.WithDeadline(ctx, last.Add(ttl/4))
			defer cancel()
			return what(ctx, last)
		}
	}
	for name, tt := range map[string]struct {
		refuse      func(ctx context.Context, last time.Time) error
		least, most time.Duration // how long the lease has not been extended when the work ends; 0 is never
		late        time.Duration
	}{
		"the directory is down":              {refuse: down, least: ttl * 2 / 3, most: ttl},
		"the directory hangs":                {refuse: hangs, least: ttl * 2 / 3, most: ttl},
		"it is somebody else's":              {refuse: func(context.Context, time.Time) error { return problem.New(problem.NotFound, "another's") }, most: ttl / 2},
		"the directory is down for a moment": {refuse: briefly(down)},
		"the directory hangs for a moment":   {refuse: briefly(hangs)},
		"the lease's answer comes late":      {refuse: down, least: ttl * 2 / 3, most: ttl, late: ttl / 2},
		"the lease's answer comes very late": {refuse: down, most: ttl, late: ttl * 19 / 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				memory, m := moving(t, directory.NewMove{})
				dir := &extending{Memory: memory, refuse: tt.refuse, late: tt.late}
				unheard := make(chan time.Duration, 100)
				cfg := settings("m1")
				cfg.LeaseTTL = ttl
				v := mover.New(cfg, dir, func(c directory.Cell) mover.Cell {
					return longCopy{w.cells[c.ID], dir, unheard}
				}, quiet)
				go func() { _ = v.Run(ctx) }()
				if tt.most == 0 {
					time.Sleep(90 * time.Second) // virtual
					if m, err := dir.Move(ctx, m.ID); err != nil || m.Phase != directory.Watching || len(unheard) > 0 {
						t.Errorf("got %s (%s), %v, %d copies ended; want it watching", m.Phase, m.Error, err, len(unheard))
					}
					return
				}
				select {
				case after := <-unheard:
					if after < tt.least || after >= tt.most {
						t.Errorf("the work ended %v after the last extension, want %v to %v", after, tt.least, tt.most)
					}
				case <-time.After(30 * time.Second): // virtual
					t.Error("the work goes on")
				}
			})
		})
	}
}

// TestAnAbortFromOutsideEndsTheWork: where a cell of the move was promoted, its moves are aborted
// under the nose of their mover, which does not go on with what it does until it is done.
func TestAnAbortFromOutsideEndsTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		memory, _ := moving(t, directory.NewMove{})
		var once sync.Once
		dir := &extending{Memory: memory, refuse: func(ctx context.Context, _ time.Time) (err error) {
			once.Do(func() { _, err = memory.AbortMoves(ctx, "a", "db", "promoted") })
			return err
		}}
		unheard := make(chan time.Duration, 100)
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return longCopy{w.cells[c.ID], dir, unheard} }, quiet)
		go func() { _ = v.Run(ctx) }()
		select {
		case <-unheard:
		case <-time.After(30 * time.Second): // virtual
			t.Error("the copy goes on")
		}
	})
}
