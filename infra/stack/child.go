package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/local"
)

// A child is one process that the stack keeps: how to start and stop it, and
// the running one, if any.
type child struct {
	command local.Command
	prepare func(ctx context.Context) error // before each start; nil is nothing
	ready   func(ctx context.Context) error
	stop    syscall.Signal
	grace   time.Duration

	proc  *local.Process // nil before the first start
	asked bool           // its end is not a failure: it starts, or was told to stop
}

// add makes a child known under its command's name.
func (s *Stack) add(c *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.children[c.command.Name] = c
}

func (s *Stack) child(name string) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.children[name]
	if !ok {
		return nil, fmt.Errorf("no process %q in this stack", name)
	}
	return c, nil
}

// StartProcess starts a child that has ended and returns when it is ready. One
// that runs is left alone.
func (s *Stack) StartProcess(ctx context.Context, name string) error {
	c, err := s.child(name)
	if err != nil {
		return err
	}
	return s.launch(ctx, c)
}

// launch starts c, records it and waits until it is ready.
func (s *Stack) launch(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	began := time.Now()
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return err
		}
	}
	proc, err := s.spawn(c)
	if err != nil || proc == nil {
		return err
	}
	if err := proc.Await(ctx, c.ready); err != nil {
		proc.Kill()
		return err
	}
	s.mu.Lock()
	c.asked = s.stopping
	s.mu.Unlock()
	if !proc.Alive() { // before anybody would have reported it
		return proc.Err()
	}
	s.progress("%-19s ready in %v", proc.Name, time.Since(began).Round(time.Millisecond))
	return nil
}

// spawn starts c and records it at once, so that Down finds it even if this
// process is killed now. It returns nil where c runs already.
func (s *Stack) spawn(c *child) (*local.Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, errors.New("the stack is stopping")
	}
	if c.proc != nil && c.proc.Alive() {
		return nil, nil //nolint:nilnil // nothing to do, as documented
	}
	proc, err := local.Start(c.command)
	if err != nil {
		return nil, err
	}
	id, _ := local.Identify(proc.PID) // it may have ended: readiness will say so
	c.proc, c.asked = proc, true
	s.state.Processes = slices.DeleteFunc(s.state.Processes, func(p Process) bool { return p.Name == proc.Name })
	s.state.Processes = append(s.state.Processes, Process{Name: proc.Name, Identity: id, Log: proc.Log})
	s.watchers.Go(func() { s.watch(c, proc) })
	return proc, s.save()
}

// watch waits for the end of proc and reports one that nobody asked for.
func (s *Stack) watch(c *child, proc *local.Process) {
	<-proc.Done()
	s.mu.Lock()
	asked := c.asked
	s.mu.Unlock()
	err := s.forget(c, proc)
	if asked && err == nil {
		return
	}
	err = errors.Join(proc.Err(), err)
	s.progress("! %v", err)
	select {
	case s.failed <- err:
	default: // nobody has read the last sixty-four; the progress line stands
	}
}

// forget takes proc out of the state file, unless its place is taken already.
func (s *Stack) forget(c *child, proc *local.Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.proc != proc {
		return nil
	}
	s.state.Processes = slices.DeleteFunc(s.state.Processes, func(p Process) bool { return p.Name == proc.Name })
	return s.save()
}

// Kill ends a child with SIGKILL and returns when it is gone. That it ends is
// not reported by Failed.
func (s *Stack) Kill(name string) error {
	c, err := s.running(name, true)
	if err != nil {
		return err
	}
	c.Kill()
	return nil
}

// Signal sends sig to a child. An end that follows from a signal that asks for
// one is not reported by Failed.
func (s *Stack) Signal(name string, sig os.Signal) error {
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL}
	p, err := s.running(name, slices.Contains(ends, sig))
	if err != nil {
		return err
	}
	return p.Signal(sig)
}

// StopProcess stops a child in order and returns when it has ended.
func (s *Stack) StopProcess(ctx context.Context, name string) error {
	c, err := s.child(name)
	if err != nil {
		return err
	}
	return s.halt(ctx, c)
}

// halt stops c if it runs.
func (s *Stack) halt(ctx context.Context, c *child) error {
	s.mu.Lock()
	proc := c.proc
	c.asked = true
	s.mu.Unlock()
	if proc == nil {
		return nil
	}
	return proc.Stop(ctx, c.stop, c.grace)
}

// running is the process of a child that runs; ending says that its end is asked for.
func (s *Stack) running(name string, ending bool) (*local.Process, error) {
	c, err := s.child(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.proc == nil || !c.proc.Alive() {
		return nil, fmt.Errorf("process %s does not run", name)
	}
	c.asked = c.asked || ending
	return c.proc, nil
}
