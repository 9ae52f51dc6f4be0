package h1

import (
	"context"
	"net"
	"syscall"
	"time"
)

// dial makes a connection, in a goroutine: a name may have to be looked up.
func (lp *loop) dial(c *conn, t *relay) {
	c.air.dialing = true
	go func() { // ends by the dialer's timeout; the loop goes on as long as c does
		nc, err := t.u.dial(context.Background()) // bounded by the dialer
		fd := -1
		if err == nil {
			fd, err = descriptorOf(nc)
			_ = nc.Close()
		}
		if !lp.post(func() { lp.dialed(c, t, fd, err) }) && fd >= 0 {
			_ = syscall.Close(fd)
		}
	}()
}

// descriptorOf is a descriptor of nc's for a loop. What is no plain connection is
// for the handler, which makes another one.
func descriptorOf(nc net.Conn) (int, error) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return -1, errStale
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	return dup(raw)
}

func (lp *loop) dialed(c *conn, t *relay, fd int, err error) {
	if !lp.here(c) || c.air.relay != t || !c.air.dialing {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
		return
	}
	c.air.dialing = false
	if err == nil {
		l := &link{}
		s := &descriptor{lp: lp, fd: fd, link: l, c: c}
		l.Conn = s
		if err = lp.add(s); err == nil {
			lp.send(c, t, l)
			return
		}
		_ = l.Close()
	}
	lp.settle(c, err)
}

// park keeps a connection after a clean exchange.
func (lp *loop) park(u *Upstream, l *link, s *descriptor) {
	most := u.Idle
	if most <= 0 {
		most = defaultKept
	}
	l.used, l.since, s.c = true, time.Now(), nil
	if len(lp.parked[u]) >= most {
		_ = l.Close()
		return
	}
	lp.parked[u] = append(lp.parked[u], l)
}

// unpark closes a connection that is idle.
func (lp *loop) unpark(l *link) {
	for u, links := range lp.parked {
		for i := range links {
			if links[i] == l {
				lp.parked[u] = append(links[:i], links[i+1:]...)
				_ = l.Close()
				return
			}
		}
	}
}

// sweepParked closes what was idle for too long, and what belongs to nobody.
func (lp *loop) sweepParked(now time.Time) {
	for u, links := range lp.parked {
		old := 0
		for old < len(links) && (now.Sub(links[old].since) >= u.maxAge() || u.ended()) {
			_ = links[old].Close()
			old++
		}
		if lp.parked[u] = append(links[:0], links[old:]...); old == len(links) && u.ended() {
			delete(lp.parked, u)
		}
	}
}
