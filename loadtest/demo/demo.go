// Package demo puts the whole product to work on one machine, breaks it, and
// says which of its promises held.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// Options say how a demo runs. The zero value of each field means its default.
type Options struct {
	Dir      string // data and logs; "" is a fresh directory that is removed at the end
	BinDir   string // where the product's binaries are; "" is this program's directory
	Keep     bool   // leave the directory
	Cells    int    // 3; at least 2
	Routers  int    // 2
	Tenants  int    // 12
	Changes  int    // route changes to measure: 50
	Seed     uint64 // 1
	Progress io.Writer
}

func (o Options) withDefaults() (_ Options, err error) {
	o.Cells, o.Routers, o.Changes = cmp.Or(o.Cells, 3), cmp.Or(o.Routers, 2), cmp.Or(o.Changes, 50)
	o.Tenants, o.Seed, o.Progress = cmp.Or(o.Tenants, 4*o.Cells), cmp.Or(o.Seed, 1), cmp.Or(o.Progress, io.Discard)
	switch {
	case o.Cells < 2:
		return o, errors.New("a demo needs at least 2 cells: one is killed, the others must not notice")
	case o.Tenants < o.Cells:
		return o, fmt.Errorf("a demo needs at least %d tenants, one for each cell", o.Cells)
	case o.Routers < 1 || o.Changes < 1:
		return o, errors.New("routers and changes must be positive")
	}
	_, o.BinDir, err = loadtest.Programs("", o.BinDir)
	return o, err
}

// pauseBudget is what a move may take of a tenant's patience here: less than the
// routers hold a request, and more than on a machine that does not run three
// cells, their tenants and whatever else at once. What it took is in the report.
const pauseBudget = "1500ms"

// stopTimeout bounds how long the stack may take to stop.
const stopTimeout = 30 * time.Second

// Run starts a stack, puts it to work, breaks it and stops it. The error says
// that the demo could not be brought to its end; whether the promises held is
// the report's to say. Nothing is left behind in either case, but the directory
// where Keep asks for it.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if o.Dir == "" {
		if o.Dir, err = stack.TempDir("", "cellway-demo-"); err != nil {
			return nil, err
		}
		if !o.Keep {
			defer func() { err = errors.Join(err, stack.RemoveDir(o.Dir)) }()
		}
	}
	s, err := stack.Start(ctx, stack.Options{
		Dir: o.Dir, BinDir: o.BinDir, Cells: o.Cells, Routers: o.Routers, Log: o.Progress, Env: []string{"MOVER_PAUSE_BUDGET=" + pauseBudget},
	})
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	defer func() {
		// ctx may have ended: the processes still have to.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, s.Stop(stopping))
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case died, running := <-s.Failed():
			if running {
				cancel(fmt.Errorf("a process ended unasked: %w", died))
			}
		case <-ctx.Done():
		}
	}()
	run := newRun(o, s)
	defer run.close()
	r, err = run.all(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	if err != nil {
		return nil, err
	}
	r.Took = loadtest.Millis(time.Since(began))
	if o.Keep {
		r.Data = o.Dir
	}
	return r, nil
}
