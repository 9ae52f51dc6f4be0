package h1

import (
	"errors"
	"time"
)

// slowAfter is how long a client may keep one write of an answer waiting before it counts
// as slow.
const slowAfter = 250 * time.Millisecond

// errSlow says that an answer was cut for its client's slowness.
var errSlow = errors.New("the client takes the answer too slowly")

// A pace notices a client that keeps a write waiting. Writes that come through at once
// cost it a timer that is set and stopped; loops, which never wait, have none.
type pace struct {
	slow  func() bool // what Outgoing.Slow says, at most once an exchange; a goroutine of its own calls it
	timer *time.Timer
	said  chan bool // by slow
	armed bool      // a write is under way
	spent bool      // slow has been called
}

// wait is called before a write, waited after it.
func (p *pace) wait() {
	if p.spent {
		return
	}
	p.armed = true
	if p.timer == nil {
		p.said = make(chan bool, 1)
		p.timer = time.AfterFunc(slowAfter, func() { p.said <- p.slow() })
		return
	}
	p.timer.Reset(slowAfter)
}

// waited reports whether the answer may go on. Where slow was called it has returned.
func (p *pace) waited() bool {
	if !p.armed {
		return true
	}
	p.armed = false
	if p.timer.Stop() {
		return true
	}
	p.spent = true
	return <-p.said
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
		return errSlow
	}
	return err
}

// tooSlow asks what is to become of an answer whose client is slow, and may end the write.
func (t *relay) tooSlow() bool {
	if t.o.Slow == nil || t.o.Slow() {
		return true
	}
	_ = t.c.nc.SetWriteDeadline(past) // the write will report it
	return false
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
		return errSlow
	}
	return err
}

func (t *foreign) tooSlow() bool {
	if t.o.Slow == nil || t.o.Slow() {
		return true
	}
	_ = t.rc.SetWriteDeadline(past) // as above
	return false
}
