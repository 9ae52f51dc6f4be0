// Package stack runs a whole Cellway on one machine as real child processes: a
// directory with its own Postgres, cells with a Postgres server, a Redis server,
// an API and a worker each, routers and movers.
//
// Data, secrets and ports stay in Options.Dir, so that a second start is quick
// and finds everything where it was. Nothing outlives the process that started
// it; [Down] ends what a killed one may have left.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cellway/cellway/infra/local"
)

// readyTimeout bounds the start of one process on a busy machine.
const readyTimeout = 90 * time.Second

// Options say what to start. The zero value starts three cells and two routers
// in .cellway with the binaries beside the running one.
type Options struct {
	Dir         string    // data, logs and state; default ".cellway"
	BinDir      string    // holds directory, router, cell and mover; default: the running executable's directory
	PostgresBin string    // directory of Postgres's binaries; default: see local.FindPostgres
	RedisServer string    // path of redis-server; default: see local.FindRedis
	Cells       int       // default 3
	Routers     int       // default 2
	Movers      int       // default 1
	Port        int       // of the first router; it must be free. 0: any
	Postgres    []string  // further settings of every Postgres server (wal_level=logical), over the stack's own
	Env         []string  // further settings (ROUTER_X=1), each for the processes that have its prefix
	TLS         bool      // routers and cells serve TLS, by a development authority in Dir
	Log         io.Writer // progress, one line per process; nil is none
	Quiet       bool      // no progress in spite of Log

	EnvOf map[string][]string // further settings of one process, by its name ("mover-1"), over Env

	// Route, unless nil, gives the URL by which something is reached where its own
	// is url: a proxy's, in tests. It is asked for the directory's database
	// ("directory"), for that which a cell's transfer endpoint uses ("c1"), and for a cell's
	// admin listener ("c1-link"), where, without TLS, movers and other cells find that endpoint; State
	// keeps their own URLs.
	Route func(name, url string) (string, error)
}

// route is the URL by which what is called name is reached.
func (o Options) route(name, url string) (string, error) {
	if o.Route == nil {
		return url, nil
	}
	routed, err := o.Route(name, url)
	if err != nil {
		return "", fmt.Errorf("route to %s: %w", name, err)
	}
	return routed, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		o.Dir = ".cellway"
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("data directory: %w", err)
	}
	o.Dir = dir
	if o.BinDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find the binaries: %w", err)
		}
		o.BinDir = filepath.Dir(exe)
	}
	if o.Cells == 0 {
		o.Cells = 3
	}
	if o.Routers == 0 {
		o.Routers = 2
	}
	if o.Movers == 0 {
		o.Movers = 1
	}
	if o.Cells < 1 || o.Routers < 1 || o.Movers < 1 {
		return o, errors.New("a stack has at least one cell, one router and one mover")
	}
	if o.Log == nil || o.Quiet {
		o.Log = io.Discard
	}
	return o, nil
}

// A Stack is a running Cellway. Its methods may be called concurrently.
type Stack struct {
	opts     Options
	programs programs
	lock     *local.FileLock
	plan     *plan
	failed   chan error
	watchers sync.WaitGroup
	trust    *trust // nil without TLS

	mu       sync.Mutex
	state    State
	children map[string]*child
	stopping bool
	stopOnce sync.Once
	stopErr  error
}

// Start starts everything and returns when all of it is ready. An error names
// what did not come up, with the end of its log, and leaves nothing running.
// ctx bounds the start only; Stop ends the stack.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	programs, err := findPrograms(opts)
	if err != nil {
		return nil, err
	}
	lock, err := takeDir(ctx, opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{
		opts: opts, programs: programs, lock: lock, failed: make(chan error, 64), children: map[string]*child{},
	}
	if err := s.start(ctx); err != nil {
		// ctx may be what ended the start; what runs must still be stopped.
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// takeDir makes the directory this process's own and clears what a killed
// process left in it.
func takeDir(ctx context.Context, dir string) (*local.FileLock, error) {
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o755); err != nil { //nolint:gosec // the user of Postgres must get through
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := local.Lock(lockPath(dir), false)
	if errors.Is(err, local.ErrLocked) {
		return nil, fmt.Errorf("%s is in use by %s: stop that first (cellway down --data %s)", dir, owner(dir), dir)
	}
	if err != nil {
		return nil, err
	}
	if err := cleanUp(ctx, dir); err != nil {
		return nil, errors.Join(err, lock.Remove())
	}
	return lock, nil
}

func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// owner names the process that holds dir, as far as it is known.
func owner(dir string) string {
	state, err := Load(dir)
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", state.Owner.PID)
}

// Failed gives the end of each child that nobody asked for. Stop closes it.
func (s *Stack) Failed() <-chan error { return s.failed }

// State is what runs now and where; the caller may keep it.
func (s *Stack) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.clone()
}

func (s *Stack) progress(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.opts.Log, format+"\n", args...)
}
