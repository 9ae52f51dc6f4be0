// Package testkit gives tests real servers: one Postgres server per test binary
// with a database per test, a Redis server per test, a Consul agent per test.
//
// They run in containers where a Docker engine answers and already has the
// image (nothing is ever pulled), else from the programs on this machine.
// CELLWAY_TESTKIT=local or =containers leaves no choice. Only tests import it.
package testkit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// startTimeout bounds the start of one server on a busy machine.
const startTimeout = 90 * time.Second

// kit holds what the tests of this binary share.
var kit struct {
	running bool // Main is on the stack
	mu      sync.Mutex
	dir     *runDir
	pg      *postgresServer
	pgErr   error
	stops   []func() error
}

// Main runs the tests and then ends the servers they shared. Every package that
// asks for a server calls it: func TestMain(m *testing.M) { testkit.Main(m) }.
func Main(m *testing.M) {
	kit.running = true
	code := m.Run()
	if err := stopAll(); err != nil {
		fmt.Fprintf(os.Stderr, "testkit: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// stopAll ends the shared servers, the last one first, and removes their files.
func stopAll() error {
	kit.mu.Lock()
	defer kit.mu.Unlock()
	var first error
	for i := len(kit.stops) - 1; i >= 0; i-- {
		if err := kit.stops[i](); err != nil && first == nil {
			first = err
		}
	}
	kit.stops = nil
	return first
}

// directory is the directory of this run, made when it is first needed.
func directory() (*runDir, error) {
	if kit.dir != nil {
		return kit.dir, nil
	}
	dir, err := newRunDir()
	if err != nil {
		return nil, err
	}
	kit.dir = dir
	kit.stops = append(kit.stops, dir.remove)
	return dir, nil
}

// begin returns a context for starting a server. It ends the test when Main does
// not run, and skips it in -short mode, which promises tests without servers.
func begin(tb testing.TB) (context.Context, context.CancelFunc) {
	tb.Helper()
	if !kit.running {
		tb.Fatal("this package needs: func TestMain(m *testing.M) { testkit.Main(m) }")
	}
	if testing.Short() {
		tb.Skip("needs a server, which -short leaves out")
	}
	return context.WithTimeout(context.Background(), startTimeout)
}

// kept ends a server that was started, which is at addr, with the test.
func kept(tb testing.TB, what, addr string, stop func() error, err error) string {
	tb.Helper()
	if err != nil {
		tb.Fatalf("start %s: %v", what, err)
	}
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Errorf("stop %s: %v", what, err)
		}
	})
	return addr
}

// Start runs things until the returned function, or the end of the test, stops them.
func Start(tb testing.TB, things ...interface {
	Run(ctx context.Context) error
},
) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	for _, thing := range things {
		wg.Go(func() {
			if err := thing.Run(ctx); err != nil {
				tb.Error(err)
			}
		})
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	tb.Cleanup(stop)
	return stop
}
