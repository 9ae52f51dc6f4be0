package h1

import (
	"sync/atomic"
	"time"
)

// A stream is an answer that goes on for as long as it likes. It outlives its
// relay: whoever ends it may do so late.
type stream struct {
	told atomic.Bool // to end
	done func()
}

// startStream lifts the deadlines of both sides.
func (t *relay) startStream() error {
	s, l := &stream{}, t.link
	done, err := t.o.Stream(func(Ending) {
		s.told.Store(true)
		_ = l.SetDeadline(past) // a read that waits returns; the connection is not used again
	})
	if err != nil {
		return err
	}
	s.done, t.stream = done, s
	if !s.told.Load() {
		_ = l.SetDeadline(time.Time{}) // reading will report it
	}
	if s.told.Load() || t.r.Context().Err() != nil { // told, or left, before the deadline was lifted
		_ = l.SetDeadline(past)
	}
	_ = t.c.nc.SetReadDeadline(time.Time{}) // who watches for the client's leaving must not stop
	return nil
}

// over reports whether the stream was told to end: then it is whole.
func (s *stream) over() bool { return s != nil && s.told.Load() }

// end gives the connections their deadlines back.
func (s *stream) end(c *conn) {
	if s == nil {
		return
	}
	s.done()
	c.retouch()
}
