package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// routers is how many router processes follow the directory.
const routers = 10

// A lab is what the figures are measured in: scratch space and one stack, both
// made when the first figure needs them.
type lab struct {
	o       Options
	dir     string
	stack   *stack.Stack
	ep      *loadtest.Endpoint
	console *loadtest.Console
	names   int
}

func newLab(o Options) *lab { return &lab{o: o} }

// scratch is a directory that is removed in the end.
func (l *lab) scratch() (string, error) {
	if l.dir == "" {
		dir, err := stack.TempDir("", "cellway-bench-")
		if err != nil {
			return "", err
		}
		l.dir = dir
	}
	return l.dir, nil
}

// running starts the stack, if it does not run yet: one cell, ten routers.
func (l *lab) running(ctx context.Context) error {
	if l.stack != nil {
		return nil
	}
	dir, err := l.scratch()
	if err != nil {
		return err
	}
	s, err := stack.Start(ctx, stack.Options{Dir: filepath.Join(dir, "stack"), BinDir: l.o.BinDir, Cells: 1, Routers: routers, Log: l.o.Progress})
	if err != nil {
		return fmt.Errorf("start the stack: %w", err)
	}
	l.stack = s
	st := s.State()
	l.ep = loadtest.NewEndpoint(st.RouterURLs()...)
	l.console = loadtest.NewConsole(st.Directory.URL, st.OperatorToken)
	for _, url := range []string{st.Directory.DatabaseURL, st.Cells[0].DatabaseURL} {
		if err := figure.Durable(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

// slug is a new slug.
func (l *lab) slug(prefix string) string {
	l.names++
	return fmt.Sprintf("%s-%d", prefix, l.names)
}

// stopTimeout bounds the stop of the stack.
const stopTimeout = 30 * time.Second

func (l *lab) close(ctx context.Context) error {
	var err error
	if l.stack != nil {
		l.ep.Close()
		l.console.Close()
		// ctx may have ended: the processes still have to.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = l.stack.Stop(stopping)
	}
	if l.dir != "" {
		err = errors.Join(err, stack.RemoveDir(l.dir))
	}
	return err
}
