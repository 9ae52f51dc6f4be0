// Package local runs real servers and processes as children of this one.
//
// A child never outlives its parent where the kernel can see to that (Linux):
// it gets the signal OnOrphan when the parent ends in whatever way. Servers
// listen on the loopback interface only, and Postgres does not run as root.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A Command describes a child process.
type Command struct {
	Name     string // for messages
	Path     string
	Args     []string
	Env      []string // the whole environment of the child
	Dir      string   // working directory; "" is this process's
	Log      string   // file that standard output and error are appended to
	User     *User    // nil: as this process
	OnOrphan syscall.Signal
}

// A Process is a running child, or one that has ended.
type Process struct {
	Name string
	PID  int
	Log  string

	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; read after done
}

// Start starts the child in a process group of its own, so that Ctrl-C in a
// terminal reaches the parent alone, which then stops its children in order.
func Start(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Env, c.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.User != nil {
		cmd.SysProcAttr.Credential = c.User.credential()
	}
	endWithParent(cmd.SysProcAttr, c.OnOrphan)

	p := &Process{Name: c.Name, Log: c.Log, cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return p, nil
}

// StartReady is Start and then Await; a child that does not get ready is killed.
func StartReady(ctx context.Context, c Command, ready func(ctx context.Context) error) (*Process, error) {
	p, err := Start(c)
	if err != nil {
		return nil, err
	}
	if err := p.Await(ctx, ready); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// run starts the child and waits for it on one thread: the kernel takes the end
// of the thread that started a child for the end of the parent.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	p.PID = p.cmd.Process.Pid
	started <- nil
	p.err = p.cmd.Wait()
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive reports whether the child still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err says how the child ended, with the last lines of its log; nil while it
// runs. An exit with status 0 is an error too: who asks did not expect an end.
func (p *Process) Err() error {
	if p.Alive() {
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	if tail := Tail(p.Log, 15); tail != "" {
		return fmt.Errorf("%s ended (%s); the end of %s:\n%s", p.Name, how, p.Log, tail)
	}
	return fmt.Errorf("%s ended (%s)", p.Name, how)
}

// Signal sends sig to the child. A child that has ended is os.ErrProcessDone.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Stop sends sig and waits; a child that is still there when ctx ends or after
// grace is killed, which is an error. Stopping what has ended does nothing.
func (p *Process) Stop(ctx context.Context, sig os.Signal, grace time.Duration) error {
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	p.Kill()
	return fmt.Errorf("stop %s: killed after %v", p.Name, grace)
}

// Kill ends the child at once and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended this moment
	<-p.done
}

// Await calls check until it returns nil. It gives up when the child ends or
// ctx does, and then says what check said last.
func (p *Process) Await(ctx context.Context, check func(ctx context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if !p.Alive() {
			return p.Err()
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; the end of %s:\n%s", p.Name, err, p.Log, Tail(p.Log, 15))
		case <-tick.C:
		}
	}
}
