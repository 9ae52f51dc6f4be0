package h1

import (
	"errors"
	"time"
)

// client takes what comes of a client.
func (lp *loop) client(c *conn) {
	defer lp.caught(c)
	a := &c.air
	if a.relay != nil {
		a.more = true
		if a.ended {
			lp.left = append(lp.left, departure{c, a.relay.began, time.Now()})
		}
		return
	}
	lp.receive(c)
}

// receive reads requests and launches their flights, until there is nothing to
// read or a flight waits.
func (lp *loop) receive(c *conn) {
	for {
		if c.buffers != nil && c.from < c.to && !lp.request(c) {
			return
		}
		c.acquire()
		switch {
		case c.from == c.to:
			c.from, c.to = 0, 0
		case c.to == len(c.in) && c.from == 0: // a large head
			lp.ground(c, (*conn).serveOn)
			return
		case c.to == len(c.in):
			c.from, c.to = 0, copy(c.in, c.in[c.from:c.to])
		}
		c.air.more = false // what comes from now on is an event of its own
		n, err := c.nc.Read(c.in[c.to:])
		if err == errAgain { //nolint:errorlint // it is what Read returns
			lp.rest(c)
			return
		}
		if err != nil || c.state.Load() != active && !c.state.CompareAndSwap(idle, active) {
			lp.close(c)
			return
		}
		c.to += n
		c.air.more = c.air.full
		if !lp.request(c) {
			return
		}
		if !c.air.full && !c.air.ended {
			lp.rest(c)
			return
		}
	}
}

// rest lets a connection wait for bytes, without buffers where none are there, or few: a
// head that comes slowly costs what has come of it.
func (lp *loop) rest(c *conn) {
	if c.to-c.from <= packBytes {
		c.pack()
		c.release()
	}
}

// request launches the flight of a request that was received whole. It is true
// where more bytes are needed for one.
func (lp *loop) request(c *conn) bool {
	now := time.Now()
	lp.now = now
	if !c.air.parsing {
		c.req.Begin(c.srv.Limits)
		c.air.parsing, c.air.due = true, now.Add(c.srv.Head)
	}
	n, f := c.req.Parse(c.unread())
	if f == None && n == 0 {
		return true
	}
	c.air.parsing = false
	if f != None {
		lp.ground(c, (*conn).serveOn)
		return false
	}
	c.req.Alias(c.in[c.from : c.from+n])
	c.from += n
	c.until, c.mustClose = now.Add(c.srv.Whole), c.req.Close()
	if c.plain() {
		switch t, course := c.take(now); course {
		case Flies:
			lp.launch(c, t)
			return false
		case Refused:
			lp.turnDown(c, t)
			return false
		case Waits:
			lp.ground(c, (*conn).handleOn)
			return false
		}
	}
	c.from -= n
	c.asked = true
	lp.ground(c, (*conn).serveOn)
	return false
}

// turnDown answers a flight that is refused.
func (lp *loop) turnDown(c *conn, t *relay) {
	defer lp.caught(c)
	c.air.relay = t
	lp.settle(c, c.w.refuse(t.flight))
}

// launch sends the request on a connection that is idle, or has one made.
func (lp *loop) launch(c *conn, t *relay) {
	c.air.relay, c.air.due = t, t.began.Add(t.flight.Timeout)
	if t.u.TLS != nil { // a loop would speak in the clear
		lp.ground(c, (*conn).crossOn)
		return
	}
	if c.air.ended {
		lp.left = append(lp.left, departure{c, t.began, t.began})
	}
	for links := lp.parked[t.u]; len(links) > 0; {
		l := links[len(links)-1]
		links[len(links)-1] = nil
		links = links[:len(links)-1]
		lp.parked[t.u] = links
		if lp.knows(t) && repeatable(c.req.Method()) && c.req.Length() == 0 || l.Conn.(*descriptor).quiet() { // as all of a loop's
			lp.send(c, t, l)
			return
		}
		_ = l.Close() // the event of it is on its way
	}
	lp.dial(c, t)
}

// lookAfter is how old what a loop knows of its idle connections may be.
const lookAfter = time.Millisecond

// knows reports whether the loop has just heard of all that has come on idle connections:
// what comes later, while it works, would be taken for the answer of the flight. Where it
// has not, it hears of them before the next request.
func (lp *loop) knows(t *relay) bool {
	if t.began.Sub(lp.woke) < lookAfter {
		return true
	}
	lp.late = true
	return false
}

func (lp *loop) send(c *conn, t *relay, l *link) {
	defer lp.caught(c)
	s := l.Conn.(*descriptor)
	s.c, s.spent = c, 0
	if err := t.launch(l); err != nil {
		lp.settle(c, err)
	} else if len(s.pending) > 0 {
		lp.ground(c, (*conn).glideOn)
	}
}

// answer relays what came of a flight's answer, no more than a turn's worth.
func (lp *loop) answer(c *conn) {
	defer lp.caught(c)
	s := c.air.relay.link.Conn.(*descriptor)
	s.spent = 0
	err := c.air.relay.answer()
	switch {
	case err != errAgain: //nolint:errorlint // it is what Read returns
		lp.settle(c, err)
	case len(c.air.pending) > 0:
		lp.ground(c, (*conn).glideOn)
	case s.spent >= turnBytes:
		lp.queue(c)
	}
}

// caught ends a connection on which a Direct has panicked.
func (lp *loop) caught(c *conn) {
	if cause := recover(); cause != nil {
		c.reset = true
		c.crashed(c.air.relay)
		c.air.relay = nil
		lp.close(c)
		c.panicked(cause)
	}
}

// settle ends a flight, and goes on with the connection.
func (lp *loop) settle(c *conn, err error) {
	defer lp.caught(c)
	t := c.air.relay
	refused := t.link == nil && err == nil
	if l := t.link; l != nil && !errors.Is(err, errUnusual) {
		t.link = nil
		if s := l.Conn.(*descriptor); err == nil && t.x.Reusable(t.to-t.from) && !s.ended && !s.full {
			lp.park(t.u, l, s)
		} else {
			_ = l.Close()
		}
		if err != nil && !c.air.gone { // nothing is asked again for who has left
			err = t.stale(l, err)
		}
	}
	if err == nil && len(c.air.pending) > 0 { // it has ended when the client has all of it
		lp.ground(c, (*conn).landOn)
		return
	}
	if !c.landed(t, err) {
		lp.ground(c, (*conn).handleOn)
		return
	}
	c.air.relay = nil
	switch {
	case err != nil:
		lp.close(c)
	case c.mustClose && (c.from < c.to || c.air.more || unsent(uintptr(c.air.fd))):
		lp.ground(c, (*conn).serveOn) // which lingers
	case c.mustClose:
		lp.close(c)
	default:
		lp.next(c, refused)
	}
}

// next waits for the next request, or takes what has come of it: in the next turn, where
// this one was refused. Else who sends many that are would have the loop for itself, and a
// stack that grows with each.
func (lp *loop) next(c *conn, refused bool) {
	more := c.air.more || c.air.ended || c.from < c.to
	c.air.due = lp.now.Add(c.srv.Idle)
	if c.from == c.to {
		c.release()
		c.state.Store(idle)
		if c.srv.draining.Load() {
			lp.close(c)
			return
		}
	}
	switch {
	case more && refused:
		lp.queue(c)
	case more:
		lp.receive(c)
	}
}
