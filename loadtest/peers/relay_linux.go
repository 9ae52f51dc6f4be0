package peers

import (
	"bytes"
	"syscall"
)

// relay is the floor under every proxy: one thread that copies bytes between each client
// and a connection of its own to the origin. It reads no request, chooses nothing, and
// asks the kernel for no more than anybody must who speaks to both sides by epoll.
func relay(addr, origin string) error {
	return serve(addr, &relayLoop{origin: origin, in: make([]byte, 64<<10)})
}

type relayLoop struct {
	origin string
	conns  []*relayConn // by file descriptor
	in     []byte
}

// A relayConn is one side; what it reads goes to its peer.
type relayConn struct {
	outlet
	peer *relayConn
}

func (r *relayLoop) accept(p *poller, ln int) {
	for {
		fd, ok := accept(ln)
		if !ok {
			return
		}
		up, err := dial(r.origin)
		if err != nil {
			_ = syscall.Close(fd)
			return
		}
		a, b := &relayConn{outlet: outlet{fd: fd}}, &relayConn{outlet: outlet{fd: up}}
		a.peer, b.peer = b, a
		for _, c := range []*relayConn{a, b} {
			for len(r.conns) <= c.fd {
				r.conns = append(r.conns, nil)
			}
			r.conns[c.fd] = c
			if p.add(c.fd) != nil {
				r.close(a)
				break
			}
		}
	}
}

func (r *relayLoop) happened(fd int32) {
	if c := r.conns[fd]; c != nil && !r.drive(c) {
		r.close(c)
	}
}

// drive does what a side allows now; false means that both are over.
func (r *relayLoop) drive(c *relayConn) bool {
	full := len(c.out) > 0
	if !c.flush() {
		return false
	}
	if full && len(c.out) == 0 && !r.copy(c.peer) { // who had to wait for that
		return false
	}
	return r.copy(c)
}

// copy sends on what can be read, until there is no more or the peer takes no more.
func (r *relayLoop) copy(c *relayConn) bool {
	for to := c.peer; len(to.out) == 0; {
		n, err := rawCall(syscall.SYS_READ, c.fd, r.in)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err != 0 || n == 0:
			return false
		}
		to.out = r.in[:n]
		ok := to.flush()
		to.out = bytes.Clone(to.out) // r.in is used again
		if !ok || n < len(r.in) {
			return ok
		}
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
