package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/local"
)

const (
	pollEvery   = 20 * time.Millisecond
	orphanGrace = 10 * time.Second // for what ends by itself when its parent has gone
)

// Down stops the stack in dir, whoever started it: it asks the owner to stop
// and, when that has gone, ends what it left. Only processes that the stack's
// own record names, by id and start, are touched. ErrNotRunning says that there
// was nothing to do.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	state, err := Load(dir)
	if err != nil {
		return err
	}
	if err := state.Owner.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop process %d: %w", state.Owner.PID, err)
	}
	if err := gone(ctx, state.Owner); err != nil {
		return fmt.Errorf("process %d, which runs the stack in %s, does not end: %w", state.Owner.PID, dir, err)
	}
	lock, err := local.Lock(lockPath(dir), false)
	if err != nil {
		return err
	}
	return errors.Join(cleanUp(ctx, dir), lock.Remove())
}

// cleanUp ends the recorded processes whose owner has gone and removes the record.
// The caller holds the lock of dir.
func cleanUp(ctx context.Context, dir string) error {
	state, err := Load(dir)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	var order [groups][]Process
	for _, p := range state.Processes {
		order[groupOf(p.Name)] = append(order[groupOf(p.Name)], p)
	}
	var errs []error
	for _, group := range order {
		errs = append(errs, together(group, func(p Process) error { return end(ctx, p) }))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(statePath(dir))
}

// end stops one process that has lost its parent.
func end(ctx context.Context, p Process) error {
	sig := syscall.SIGTERM
	if groupOf(p.Name) == groupPostgres {
		sig = syscall.SIGINT
	}
	if err := p.Signal(sig); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	soon, cancel := context.WithTimeout(ctx, orphanGrace)
	defer cancel()
	if gone(soon, p.Identity) == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	if err := gone(ctx, p.Identity); err != nil {
		return fmt.Errorf("%s (process %d) does not end: %w", p.Name, p.PID, err)
	}
	return nil
}

// gone waits for the end of a process that is no child of this one.
func gone(ctx context.Context, id local.Identity) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for id.Alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
