package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/cellway/cellway/infra/run"
)

// A Keeper has what only one process may have, such as files that it writes.
type Keeper interface {
	LetGo()    // another process starts and has it from now on
	TakeBack() // that one did not get ready
}

// Run gives the sockets to a process that asks for them, until ctx ends, one has
// taken over, or Leave is called. Only one is served at a time.
func (s *Sockets) Run(ctx context.Context, k Keeper) error {
	s.mu.Lock()
	control := s.control
	s.mu.Unlock()
	if control == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		_ = control.SetDeadline(time.Now()) // Accept reports it
	})
	defer stop()
	for {
		c, err := control.AcceptUnix()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = c.Close() // it starts by itself
			}
			return nil // the file stays: who is starting now may have the socket
		case exhausted(err):
			run.Pause(ctx, askEvery) // who asks waits meanwhile
		case err != nil:
			return fmt.Errorf("accept who takes over: %w", err)
		case s.give(ctx, c, k):
			return nil
		}
	}
}

// exhausted reports whether err is of a lack that passes.
func exhausted(err error) bool {
	for _, lack := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}

// give hands the sockets to the process at the other end, and reports whether it
// has taken over.
func (s *Sockets) give(ctx context.Context, c *net.UnixConn, k Keeper) (gone bool) {
	defer func() { _ = c.Close() }() // everything has been said
	k.LetGo()
	defer func() {
		if !gone && !s.goes(ctx) {
			_ = c.SetWriteDeadline(time.Now().Add(answerTime)) // the one before may be over
			_, _ = c.Write([]byte(mine))                       // who has left does not need it
			k.TakeBack()
		}
	}()
	// A new process gives up readyTime after it has the sockets, or ends.
	if c.SetDeadline(time.Now().Add(readyTime+2*answerTime)) != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	if s.send(c) != nil {
		return false
	}
	said, err := bufio.NewReaderSize(c, len(ready)).ReadString('\n')
	if err != nil || said != ready || ctx.Err() != nil {
		return false
	}
	// Who cannot be told is not there any more, and this process goes on.
	if _, err := c.Write([]byte(yours)); err != nil {
		return false
	}
	s.Retire()
	close(s.taken)
	return true
}

// goes reports whether this process is about to end anyway: then the new one is to
// go on without an answer, and keeps what it was given.
func (s *Sockets) goes(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired || ctx.Err() != nil
}

// send sends hello with the descriptors, the control socket's first.
func (s *Sockets) send(c *net.UnixConn) error {
	s.mu.Lock() // keeps them open meanwhile
	defer s.mu.Unlock()
	if s.retired {
		return net.ErrClosed
	}
	fds, err := appendFD(nil, s.control)
	for _, l := range s.ours {
		if err == nil {
			fds, err = appendFD(fds, l.TCPListener)
		}
	}
	if err == nil && len(fds) > mostFDs {
		err = errors.New("too many sockets to hand over")
	}
	if err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix([]byte(hello), syscall.UnixRights(fds...), nil)
	return err
}

// appendFD appends a socket's descriptor as it is: File's would make the socket
// block for both processes.
func appendFD(fds []int, sc syscall.Conn) ([]int, error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
	return fds, err
}
