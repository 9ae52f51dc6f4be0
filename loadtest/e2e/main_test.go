// Package e2e tells what the product does for its users, one story a file, by
// looking at it from outside: real processes, at least two cells, HTTP. Stories
// that harm nothing share one stack and run at the same time; those that kill
// processes share another one and run one after the other.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/infra/testkit/product"
	"github.com/cellway/cellway/loadtest"
)

var (
	// calm is the stack of the stories that harm nothing; rough that of the others.
	calm  = &shared{cells: 2}
	rough = &shared{cells: 3}
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, end := range []func() error{calm.stop, rough.stop, func() error { return os.RemoveAll(built) }} {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// built is the directory that binaries are built into, "" where none are.
var built string

// binaries is where the product's binaries are.
var binaries = sync.OnceValues(func() (dir string, err error) {
	if built, err = os.MkdirTemp("", "cellway-e2e-bin-"); err != nil {
		return "", err
	}
	return product.In(built, "directory", "router", "cell")
})

// A shared stack is started by the first story that asks for it. A story that
// fails may leave it harmed, so the next one gets a new one.
type shared struct {
	cells int

	mu    sync.Mutex
	world *world
}

// A world is a running stack and what one needs to talk to it.
type world struct {
	*stack.Stack
	ep      *loadtest.Endpoint
	console *loadtest.Console
	dir     string
	cancel  context.CancelFunc
}

const (
	startTimeout = 3 * time.Minute // on a machine that does other work too
	stopTimeout  = time.Minute
)

func (s *shared) get(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a whole stack")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world == nil {
		w, err := start(stack.Options{Cells: s.cells, Routers: 2})
		if err != nil {
			t.Fatal(err)
		}
		s.world = w
	}
	return s.world
}

// alone is get for a story that kills: a story that fails takes its stack with it.
func (s *shared) alone(t *testing.T) *world {
	t.Helper()
	w := s.get(t)
	t.Cleanup(func() {
		if t.Failed() {
			if err := s.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func start(o stack.Options) (*world, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := stack.TempDir("", "cellway-e2e-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	starting, started := context.WithTimeout(ctx, startTimeout)
	defer started()
	o.Dir, o.BinDir, o.Log = dir, bin, os.Stderr
	o.Env = []string{"MOVER_PAUSE_BUDGET=1900ms"} // below the routers' hold: stories hold what must not happen, figures how fast
	st, err := stack.Start(starting, o)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start stack in %s: %w", dir, err)
	}
	state := st.State()
	w := &world{Stack: st, dir: dir, cancel: cancel, console: loadtest.NewConsole(state.Directory.URL, state.OperatorToken)}
	w.ep = loadtest.NewEndpoint(state.RouterURLs()...)
	if o.TLS {
		err = w.ep.Trust(state.Authority)
	}
	return w, err
}

// stop stops the stack, if there is one. KEEP=1 leaves its directory, with the logs.
func (s *shared) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.world
	if w == nil {
		return nil
	}
	s.world = nil
	w.ep.Close()
	w.console.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := w.Stop(ctx)
	w.cancel()
	if os.Getenv("KEEP") != "" {
		fmt.Fprintln(os.Stderr, "kept", w.dir)
		return err
	}
	return errors.Join(err, stack.RemoveDir(w.dir))
}

var slugs atomic.Int64

// slug is a slug that no other story has.
func slug(prefix string) string { return fmt.Sprintf("%s-%d", prefix, slugs.Add(1)) }

// cell is the id of the stack's n-th cell, from 1.
func (w *world) cell(n int) directory.CellID { return directory.CellID(w.State().Cells[n-1].ID) }
