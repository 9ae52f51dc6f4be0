package h1

import (
	"errors"
	"sync"
	"time"
)

// slowAfter is how long a client may keep its exchange waiting, for it to take the answer or
// to send the body, before it counts as slow: in all, or who takes a little each time never would.
const slowAfter = 500 * time.Millisecond

// ErrSlow says that an exchange was cut because its client is slow.
var ErrSlow = errors.New("the client is slow, and there is no place for it")

// A pace adds up what an exchange waits for its client, in one direction. A wait that is
// short costs it a timer that is set and stopped; loops, which never wait, have none.
type pace struct {
	slow  func() bool // which a goroutine of its own calls, at most once an exchange
	timer *time.Timer
	said  chan bool // by slow
	took  time.Duration
	since time.Time
	armed bool // it waits now
	spent bool // slow has been called
}

// wait is called before what may wait, waited after it.
func (p *pace) wait() {
	if p.spent || p.slow == nil {
		return
	}
	p.armed, p.since = true, time.Now()
	if p.timer == nil {
		p.said = make(chan bool, 1)
		p.timer = time.AfterFunc(slowAfter, func() { p.said <- p.slow() })
		return
	}
	p.timer.Reset(slowAfter - p.took)
}

// waited reports whether the exchange may go on. Where slow was called it has returned.
func (p *pace) waited() bool {
	if !p.armed {
		return true
	}
	p.armed = false
	if p.timer.Stop() {
		p.took += time.Since(p.since)
		return true
	}
	p.spent = true
	return <-p.said
}

// reset makes p ready for the next exchange.
func (p *pace) reset() {
	p.waited() // only after a panic
	p.took, p.spent = 0, false
}

// A slowness is what becomes of an exchange whose client is slow, in either direction.
type slowness struct {
	mu     sync.Mutex
	closed bool // the exchange is over
	asked  bool
	goesOn bool
}

// ask asks slow, once, and calls cut where that says no.
func (s *slowness) ask(slow func() bool, cut func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	if !s.asked {
		s.asked, s.goesOn = true, slow == nil || slow()
		if !s.goesOn {
			cut()
		}
	}
	return s.goesOn
}

// end keeps ask from what is not the exchange's any more.
func (s *slowness) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// beforeWrite and afterWrite are around each write to the client that may wait: of a stream
// it has a deadline of its own, which does not run while the cell is silent.
func (t *relay) beforeWrite() {
	switch {
	case t == nil:
	case t.stream != nil:
		_ = t.c.nc.SetWriteDeadline(time.Now().Add(t.u.patience())) // the write will report it
	default:
		t.wait()
	}
}

func (t *relay) afterWrite(err error) error {
	if t != nil && !t.waited() && err == nil {
		return ErrSlow
	}
	return err
}

// tooSlow asks what is to become of the exchange.
func (t *relay) tooSlow() bool { return t.slowness.ask(t.o.Slow, t.cut) }

// cut ends what the exchange waits for, and what it has of the cell: that a write ends may
// take a while.
func (t *relay) cut() {
	err := error(ErrSlow)
	t.client.Store(&err)
	if t.link != nil {
		_ = t.link.Close()
	}
	_, _ = t.c.nc.SetWriteDeadline(past), t.c.nc.SetReadDeadline(past) // who waits will report it
}

func (t *foreign) beforeWrite() {
	if t.stream != nil {
		_ = t.rc.SetWriteDeadline(time.Now().Add(t.u.patience())) // the write will report it
		return
	}
	t.wait()
}

func (t *foreign) afterWrite(err error) error {
	if t.stream != nil {
		_ = t.rc.SetWriteDeadline(time.Time{}) // at it HTTP/2 ends the stream, even if there is nothing to write
	}
	if !t.waited() && err == nil {
		return ErrSlow
	}
	return err
}

// tooSlow is as of a relay. The upload may ask when Forward is over.
func (t *foreign) tooSlow() bool { return t.slowness.ask(t.o.Slow, t.cut) }

func (t *foreign) cut() {
	if t.upload != nil {
		err := error(ErrSlow)
		t.upload.client.Store(&err)
	}
	_ = t.link.Close()
	_, _ = t.rc.SetWriteDeadline(past), t.rc.SetReadDeadline(past) // as of a relay
}
