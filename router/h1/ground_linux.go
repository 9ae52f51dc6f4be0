package h1

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// ground gives the connection, with its flight, to a goroutine that goes on with
// next.
func (lp *loop) ground(c *conn, next func(c *conn)) {
	lp.forget(c)
	a, pending := &c.air, c.air.pending
	nc, err := a.land()
	if err != nil { // out of descriptors
		nc = closedConn{}
	}
	if t := a.relay; t != nil && t.link != nil {
		s := t.link.Conn.(*descriptor)
		a.up = s.pending
		far, err := s.land()
		if err != nil {
			far = closedConn{}
		}
		t.link.ground(far)
	}
	a.pending = pending
	c.origin, c.flew = lp, false
	c.ground(nc)
	if a.gone {
		c.cancel()
	}
	c.loop.Store(nil)
	go func() { // ends with the connection, as one that never was in a loop
		defer c.leave()
		_ = nc.SetWriteDeadline(time.Now().Add(c.srv.Whole)) // the write will report it
		if len(a.pending) > 0 {
			c.relaying = a.relay
			c.relaying.beforeWrite()
			_, err := nc.Write(a.pending)
			if err = c.relaying.afterWrite(err); err != nil { // nothing may come after a part of it
				c.w.err = err
				c.dropUnsent()
				_ = nc.Close()
			}
			a.pending, c.relaying = nil, nil
		}
		next(c)
	}()
}

// home gives an idle connection back to its loop, if it has one. What a loop cannot serve
// keeps its goroutine, as to ground a connection costs more than to wait with one.
func (c *conn) home() bool {
	c.flew = false // where this fails it waits with its goroutine, or naps
	lp := c.origin
	tcp, ok := c.nc.(*net.TCPConn)
	if lp == nil || !ok || c.napped {
		return false
	}
	fd, err := descriptorOf(tcp)
	if err != nil {
		return false
	}
	c.srv.mu.Lock() // who closes the connection from outside has it, too
	if c.srv.draining.Load() || c.state.Load() != idle {
		c.srv.mu.Unlock()
		_ = syscall.Close(fd)
		return false
	}
	c.air = airborne{descriptor: descriptor{lp: lp, fd: fd, c: c}, at: -1}
	cancel := c.cancel
	c.ctx, c.cancel, c.raw, c.poll, c.push = context.Background(), func() {}, nil, nil, pusher{}
	c.nc = &c.air
	c.loop.Store(lp)
	c.srv.mu.Unlock()
	cancel()
	_ = tcp.Close() // the scheduler's poller forgets it; fd is the connection
	if !lp.post(func() { lp.begin(c, c.srv.Idle) }) {
		lp.begin(c, c.srv.Idle) // which finds that all is over
	}
	return true
}

// serveOn serves what was received.
func (c *conn) serveOn() {
	if c.mustClose && !c.asked && c.air.relay == nil && c.w.headed {
		c.linger()
		return
	}
	c.retouch()
	for first := c.buffers != nil && c.from < c.to; first || c.await(false) == nil; first = false {
		if !c.readHead() || !c.exchange() {
			return
		}
	}
}

// handleOn has the handler go on with a flight.
func (c *conn) handleOn() {
	c.air.relay = nil
	c.retouch()
	if c.byHandler() {
		c.serveOn()
	}
}

// glideOn relays the rest of a flight's answer.
func (c *conn) glideOn() {
	t := c.air.relay
	c.air.relay = nil
	c.after(c.glideDown(t))
}

func (c *conn) glideDown(t *relay) (served, ok bool) {
	defer c.caught(t, &served, &ok)
	l := t.link
	c.retouch()
	c.startWatching()
	l.extend(t.began, t.flight.Timeout)
	c.waitsFor(l)
	_, err := l.Write(c.air.up)
	c.air.up = nil
	return c.touchDown(t, t.glide(l, errors.Join(err, c.w.err)))
}

// landOn ends a flight of which only the client had not taken everything.
func (c *conn) landOn() {
	t := c.air.relay
	c.air.relay = nil
	c.retouch()
	c.startWatching()
	served, ok := c.touchDown(t, c.w.err)
	if served && !ok && !c.reset && c.from == c.to { // more may have come, which a close would answer with a reset
		c.linger()
	}
	c.after(served, ok)
}

// crossOn launches a flight that a loop must not.
func (c *conn) crossOn() {
	t := c.air.relay
	c.air.relay = nil
	c.retouch()
	c.after(c.cross(t))
}

// after goes on after a flight that ended in a goroutine.
func (c *conn) after(served, ok bool) {
	switch {
	case !served:
		c.handleOn()
	case ok:
		c.serveOn()
	}
}

// A closedConn stands for a connection that could not be kept.
type closedConn struct{ net.Conn }

func (closedConn) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (closedConn) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (closedConn) Close() error                     { return nil }
func (closedConn) SetDeadline(time.Time) error      { return net.ErrClosed }
func (closedConn) SetReadDeadline(time.Time) error  { return net.ErrClosed }
func (closedConn) SetWriteDeadline(time.Time) error { return net.ErrClosed }
