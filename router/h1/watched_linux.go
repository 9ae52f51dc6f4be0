package h1

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// A watched is an epoll that the scheduler's poller watches: who waits for its events is
// a goroutine that is parked, and no thread waits in a system call.
type watched struct {
	fd   int
	file *os.File        // of fd: its deadline, and its end
	raw  syscall.RawConn // of file: to wait
}

func newWatched(name string) (*watched, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	_ = syscall.SetNonblock(fd, true) // which only tells NewFile that it can be waited for
	f := os.NewFile(uintptr(fd), name)
	raw, err := f.SyscallConn()
	if err = errors.Join(err, f.SetReadDeadline(time.Time{})); err != nil { // where it is not watched
		return nil, errors.Join(fmt.Errorf("have an epoll watched: %w", err), f.Close())
	}
	return &watched{fd: fd, file: f, raw: raw}, nil
}
