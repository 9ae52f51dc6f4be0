package benchmove

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// A lab is what the figures are measured in: scratch space, and one stack that is
// started when the first figure needs it.
type lab struct {
	o     Options
	dir   string
	world *world
	names int
}

// A world is a running stack of two cells and what one needs to talk to it.
type world struct {
	*stack.Stack
	lab     *lab
	state   stack.State
	ep      *loadtest.Endpoint
	console *loadtest.Console
}

func newLab(o Options) *lab { return &lab{o: o} }

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.o.Progress, "bench-move: "+format+"\n", args...)
}

// slug is a new slug.
func (l *lab) slug(prefix string) string {
	l.names++
	return fmt.Sprintf("%s-%d", prefix, l.names)
}

// scratch is a directory that is removed in the end.
func (l *lab) scratch() (string, error) {
	if l.dir == "" {
		dir, err := stack.TempDir(l.o.Dir, "cellway-bench-move-")
		if err != nil {
			return "", err
		}
		l.dir = dir
	}
	return l.dir, nil
}

// unbounded lifts bounds that belong to the product's defences and not to what is measured.
var unbounded = []string{"CELL_RATE_PER_MINUTE=0", "CELL_CAPACITY=100000"}

// running is the stack, started if it does not run yet: two cells, two routers,
// one mover, all with the settings that they have by default.
func (l *lab) running(ctx context.Context) (*world, error) {
	if l.world != nil {
		return l.world, nil
	}
	dir, err := l.scratch()
	if err != nil {
		return nil, err
	}
	s, err := stack.Start(ctx, stack.Options{
		Dir: filepath.Join(dir, "stack"), BinDir: l.o.BinDir, Cells: 2, Routers: 2, Env: slices.Concat(unbounded, l.o.Env), Log: l.o.Progress,
	})
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	w := &world{Stack: s, lab: l, state: s.State()}
	l.world = w
	w.ep, w.console = loadtest.NewEndpoint(w.state.RouterURLs()...), loadtest.NewConsole(w.state.Directory.URL, w.state.OperatorToken)
	for _, url := range []string{w.state.Directory.DatabaseURL, w.state.Cells[0].DatabaseURL, w.state.Cells[1].DatabaseURL} {
		if err := figure.Durable(ctx, url); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// connected runs f on a connection of its own.
func connected(ctx context.Context, url string, f func(conn *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// busyLoad is the load average above which a machine's times are those of a busy one.
const busyLoad = 0.5

// quiet says what is wrong with the machine and the options for figures that count.
func quiet(o Options, load string) []string {
	var warnings []string
	if one, err := strconv.ParseFloat(load, 64); err == nil && one > busyLoad {
		warnings = append(warnings, fmt.Sprintf("the load average was %s before the start: times are those of a busy machine, only ratios and counts mean something", load))
	}
	if dir := cmp.Or(o.Dir, os.TempDir()); inMemory(dir) {
		warnings = append(warnings, dir+" is in memory, so fsync costs nothing there: name a directory on a disk with --data")
	}
	if len(o.Env) > 0 {
		warnings = append(warnings, fmt.Sprintf("not with the default settings: %v", o.Env))
	}
	if o.Quick {
		warnings = append(warnings, "--quick: too few samples for the goals to mean much")
	}
	return warnings
}

// stopTimeout bounds the stop of the stack.
const stopTimeout = time.Minute

func (l *lab) close(ctx context.Context) error {
	var err error
	if w := l.world; w != nil {
		if w.ep != nil {
			w.ep.Close()
			w.console.Close()
		}
		// ctx may have ended: the processes still have to.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = w.Stop(stopping)
	}
	if l.dir != "" {
		err = errors.Join(err, stack.RemoveDir(l.dir))
	}
	return err
}
