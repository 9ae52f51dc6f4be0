package run

import (
	"context"
	"fmt"
	"sync"
)

// A Group owns goroutines: the first that fails ends them all, and Wait returns
// when the last one has. Stop order inside a Group is the context's alone; what
// must stop later belongs to the function that calls Wait.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	once   sync.Once
	err    error
}

// NewGroup makes a Group whose context ends with parent, with the first failure
// or with Stop.
func NewGroup(parent context.Context) *Group {
	ctx, cancel := context.WithCancelCause(parent)
	return &Group{ctx: ctx, cancel: cancel}
}

// Context is what the group's goroutines run under.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f; name is what its failure is reported under.
func (g *Group) Go(name string, f func(ctx context.Context) error) {
	g.wg.Go(func() {
		if err := f(g.ctx); err != nil && g.ctx.Err() == nil {
			g.once.Do(func() { g.err = fmt.Errorf("%s: %w", name, err) })
			g.cancel(err)
		}
	})
}

// Stop ends the group's context.
func (g *Group) Stop() { g.cancel(context.Canceled) }

// Wait blocks until every goroutine has returned and gives the first failure.
// It does not stop them.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.cancel(nil)
	return g.err
}
