package h1

import "time"

// touch puts off the end of the connection, and its nap. It is called for every
// request and mostly does nothing: the deadline of writes is the longest there is and
// a second, and half of the time until the nap more or less does not matter.
func (c *conn) touch() {
	now := time.Now()
	if now.Sub(c.touched) < min(c.srv.Nap/2, time.Second) {
		return
	}
	c.touched = now
	_ = c.nc.SetWriteDeadline(c.longest(now)) // a write will report it
	c.readLazily()
}

// readLazily gives reads the deadline that they have between two requests. An
// exchange that reads sets its own.
func (c *conn) readLazily() {
	end := c.longest(c.touched)
	if nap := c.touched.Add(c.srv.Nap); canNap && !c.wakeful && nap.Before(end) {
		end = nap
	}
	_ = c.nc.SetReadDeadline(end) // a read will report it
}

// longest is the longest deadline there is.
func (c *conn) longest(now time.Time) time.Time {
	return now.Add(max(c.srv.Idle, c.srv.Whole) + time.Second)
}

// retouch is touch after the deadline was changed.
func (c *conn) retouch() {
	c.touched = time.Time{}
	c.touch()
}
