package peers

import (
	"runtime"
	"syscall"
)

// relay is the floor under every proxy: one thread that copies bytes between each client
// and a connection of its own to the origin. It reads no request, chooses nothing, and
// asks the kernel for no more than anybody must who speaks to both sides by epoll.
func relay(addr, origin string) error {
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
	r := &relayLoop{p: p, origin: origin, in: make([]byte, 64<<10)}
	for {
		events, err := p.wait(-1)
		if err != nil {
			return err
		}
		for _, e := range events {
			if int(e.Fd) == ln {
				r.accept(ln)
			} else if c := r.conns[e.Fd]; c != nil && !r.drive(c, e.Events) {
				r.close(c)
			}
		}
	}
}

type relayLoop struct {
	p      *poller
	origin string
	conns  []*relayConn // by file descriptor
	in     []byte
}

// A relayConn is one side; what it reads goes to its peer.
type relayConn struct {
	fd   int
	peer *relayConn
	out  []byte // what is still to be sent to it
}

func (r *relayLoop) accept(ln int) {
	for {
		fd, _, err := syscall.Accept4(ln, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return // none is left
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		up, err := dial(r.origin)
		if err != nil {
			_ = syscall.Close(fd)
			return
		}
		a, b := &relayConn{fd: fd}, &relayConn{fd: up}
		a.peer, b.peer = b, a
		for _, c := range []*relayConn{a, b} {
			for len(r.conns) <= c.fd {
				r.conns = append(r.conns, nil)
			}
			r.conns[c.fd] = c
			if r.p.add(c.fd) != nil {
				r.close(a)
				break
			}
		}
	}
}

// drive does what a side allows now; false means that both are over.
func (r *relayLoop) drive(c *relayConn, events uint32) bool {
	if !c.flush() {
		return false
	}
	if events&syscall.EPOLLIN == 0 && len(c.peer.out) > 0 {
		return true
	}
	for len(c.peer.out) == 0 {
		n, err := syscall.Read(c.fd, r.in)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err != nil || n == 0:
			return false
		}
		if c.peer.out = r.in[:n]; !c.peer.flush() {
			return false
		}
		c.peer.out = append([]byte(nil), c.peer.out...)
		if n < len(r.in) {
			return true
		}
	}
	return true
}

func (c *relayConn) flush() bool {
	for len(c.out) > 0 {
		n, err := syscall.Write(c.fd, c.out)
		if err == syscall.EAGAIN {
			return true
		}
		if err != nil {
			return false
		}
		c.out = c.out[n:]
	}
	return true
}

func (r *relayLoop) close(c *relayConn) {
	for _, c := range []*relayConn{c, c.peer} {
		if c.fd < len(r.conns) && r.conns[c.fd] == c {
			r.conns[c.fd] = nil
		}
		_ = syscall.Close(c.fd)
	}
}
