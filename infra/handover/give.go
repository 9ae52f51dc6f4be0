package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// A Keeper has what only one process may have, such as files that it writes.
type Keeper interface {
	LetGo()    // another process starts and has it from now on
	TakeBack() // that one did not get ready
}

// Run gives the sockets to a process that asks for them, until ctx ends or one has
// taken over. Only one is served at a time.
func (s *Sockets) Run(ctx context.Context, k Keeper) error {
	if s.control == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		_ = s.control.SetDeadline(time.Now()) // Accept reports it
	})
	defer stop()
	for {
		c, err := s.control.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil // the file stays: who is starting now may have the socket
			}
			return fmt.Errorf("accept who takes over: %w", err)
		}
		if s.give(ctx, c, k) {
			return nil
		}
	}
}

// give hands the sockets to the process at the other end, and reports whether it
// has taken over.
func (s *Sockets) give(ctx context.Context, c *net.UnixConn, k Keeper) (gone bool) {
	defer func() { _ = c.Close() }() // everything has been said
	// A new process gives up readyTime after it has the sockets, or ends.
	if c.SetDeadline(time.Now().Add(readyTime+2*answerTime)) != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	k.LetGo()
	defer func() {
		if !gone {
			k.TakeBack()
		}
	}()
	if s.send(c) != nil {
		return false
	}
	said, err := bufio.NewReaderSize(c, len(ready)).ReadString('\n')
	if err != nil || said != ready || ctx.Err() != nil {
		return false
	}
	s.Retire()
	close(s.taken)
	_, _ = c.Write([]byte(yours)) // who does not hear it sees the end of the connection
	return true
}

// send sends hello with the descriptors, the control socket's first.
func (s *Sockets) send(c *net.UnixConn) error {
	s.mu.Lock() // keeps them open meanwhile
	defer s.mu.Unlock()
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
