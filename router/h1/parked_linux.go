package h1

import (
	"context"
	"net"
	"time"
)

// dial makes a connection, in a goroutine: a name may have to be looked up.
func (lp *loop) dial(c *conn, t *relay) {
	c.air.dialing = true
	go func() { // ends by the dialer's timeout; the loop goes on as long as c does
		l, err := t.u.dial(context.Background()) // bounded by the dialer
		if err == nil {
			if err = lp.lift(c, l); err != nil {
				_ = l.Close()
			}
		}
		if !lp.post(func() { lp.dialed(c, t, l, err) }) && err == nil {
			_ = l.Close()
		}
	}()
}

// lift makes l's connection one for the loop.
func (lp *loop) lift(c *conn, l *link) error {
	fd, err := descriptorOf(l.Conn)
	for short(err) && l.files.drop() {
		fd, err = descriptorOf(l.Conn)
	}
	if err != nil {
		return err
	}
	_ = l.Conn.Close() // the scheduler's poller forgets it; fd is the connection
	l.Conn = &descriptor{lp: lp, fd: fd, link: l, c: c}
	return nil
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

func (lp *loop) dialed(c *conn, t *relay, l *link, err error) {
	if !lp.here(c) || c.air.relay != t || !c.air.dialing {
		if err == nil {
			_ = l.Close()
		}
		return
	}
	c.air.dialing = false
	if err == nil {
		if err = lp.add(l.Conn.(*descriptor)); err == nil {
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
	l.used, l.since, s.c = true, lp.now, nil
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

// DropIdle implements Keeper, for goroutines.
func (lp *loop) DropIdle() int {
	done := make(chan int, 1)
	if !lp.post(func() { done <- lp.dropParked() }) {
		return 0
	}
	return <-done // a loop waits for nobody, and its end runs what was posted
}

// dropParked closes the connection that has been idle for longest, to some cell.
func (lp *loop) dropParked() int {
	for u, links := range lp.parked {
		if len(links) > 0 {
			_ = links[0].Close()
			lp.parked[u] = append(links[:0], links[1:]...)
			return 1
		}
	}
	return 0
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
