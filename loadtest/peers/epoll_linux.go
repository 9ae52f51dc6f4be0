package peers

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// A poller waits for sockets with a timeout of nanoseconds: at 10,000 requests a
// second the millisecond of epoll_wait is ten requests too late.
type poller struct {
	fd     int
	events [256]syscall.EpollEvent
}

const (
	sysEpollPwait2   = 441 // the same on every architecture
	prSetTimerslack  = 29
	readOrWriteEdge  = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31 // EPOLLET, whose constant is negative
	epollEdgeBacklog = 4096
)

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	// The kernel may be late by 50 us otherwise; without effect where it refuses.
	_, _, _ = syscall.Syscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0)
	return &poller{fd: fd}, nil
}

func (p *poller) close() { _ = syscall.Close(p.fd) }

// add watches fd for bytes and for room, each told once per change.
func (p *poller) add(fd int) error {
	e := syscall.EpollEvent{Events: readOrWriteEdge, Fd: int32(fd)} //nolint:gosec // a file descriptor
	if err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// wait gives the sockets at which something happened; a negative d waits for ever. Go's
// scheduler does not know of it: a thread that waits in a call that it knows of loses its
// processor to a watcher, which looks for such threads every 20 us from then on. Goroutines
// beside this one run when the scheduler interrupts it, after 10 ms.
func (p *poller) wait(d time.Duration) ([]syscall.EpollEvent, error) {
	var timeout *syscall.Timespec
	if d >= 0 {
		ts := syscall.NsecToTimespec(int64(d))
		timeout = &ts
	}
	n, _, errno := syscall.RawSyscall6(sysEpollPwait2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), //nolint:gosec // the kernel's interface
		uintptr(len(p.events)), uintptr(unsafe.Pointer(timeout)), 0, 0) //nolint:gosec // the kernel's interface
	switch errno {
	case 0:
		return p.events[:n], nil
	case syscall.EINTR:
		return nil, nil
	}
	return nil, fmt.Errorf("wait for sockets (needs Linux 5.11): %w", errno)
}

// A server is what is done with connections. All of it is done on one thread.
type server interface {
	accept(p *poller, ln int)
	happened(fd int32)
}

// serve lets s serve addr for ever.
func serve(addr string, s server) error {
	runtime.LockOSThread()
	ln, err := listen(addr)
	if err != nil {
		return err
	}
	p, err := newPoller()
	if err != nil {
		return err
	}
	if err := p.add(ln); err != nil {
		return err
	}
	for {
		events, err := p.wait(-1)
		if err != nil {
			return err
		}
		for _, e := range events {
			if int(e.Fd) == ln {
				s.accept(p, ln)
			} else {
				s.happened(e.Fd)
			}
		}
	}
}

// listen is a listening socket that does not block.
func listen(addr string) (int, error) {
	to, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	err = errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1), syscall.Bind(fd, to), syscall.Listen(fd, epollEdgeBacklog))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("listen on %s: %w", addr, err), syscall.Close(fd))
	}
	return fd, nil
}

// accept takes a connection that waits; false where none is left, or the limit is
// reached and the client sees it.
func accept(ln int) (fd int, ok bool) {
	fd, _, err := syscall.Accept4(ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	if err != nil {
		return -1, false
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return fd, true
}

// An outlet is a socket, and what is still to be sent to it.
type outlet struct {
	fd  int
	out []byte
}

// rawCall reads or writes at a socket that does not block, so that Go's scheduler need not
// know of it.
func rawCall(call uintptr, fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // the kernel's interface
		if err != syscall.EINTR {
			return int(n), err //nolint:gosec // at most len(b)
		}
	}
}

// flush sends what the socket takes; false means that it is over.
func (c *outlet) flush() bool {
	for len(c.out) > 0 {
		n, err := rawCall(syscall.SYS_WRITE, c.fd, c.out)
		if err == syscall.EAGAIN {
			return true
		}
		if err != 0 {
			return false
		}
		c.out = c.out[n:]
	}
	return true
}

// dial connects, and gives a socket that does not block.
func dial(addr string) (int, error) {
	to, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	err = errors.Join(syscall.Connect(fd, to), syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1), syscall.SetNonblock(fd, true))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), syscall.Close(fd))
	}
	return fd, nil
}

func sockaddr(addr string) (*syscall.SockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() {
		return nil, fmt.Errorf("address %q is not IPv4:PORT", addr)
	}
	return &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}
