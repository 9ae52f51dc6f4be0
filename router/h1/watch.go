package h1

import (
	"net"
	"sync"
	"time"
)

// watchAfter is when an exchange that takes long gets a watcher.
const watchAfter = 50 * time.Millisecond

// A watcher looks, while a handler works for long, whether the client is still
// there. Most exchanges end before it starts. A client that closes its half of
// the connection has left, as for net/http.
type watcher struct {
	watch *time.Timer
	mu    sync.Mutex
	wants bool          // the handler works
	looks chan struct{} // closed when the look under way ends; nil: none is
	gone  bool          // the client has left
	away  net.Conn      // where the exchange waits, which ends when the client leaves
}

func (c *conn) startWatching() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wants = true
	if c.watch == nil {
		c.watch = time.AfterFunc(watchAfter, c.look)
		return
	}
	c.watch.Reset(watchAfter)
}

// look waits for a byte or the end of the client's half. The byte belongs to the
// next request.
func (c *conn) look() {
	c.mu.Lock()
	switch {
	case !c.wants, c.looks != nil: // over, or a look that began late for the exchange before has gone on for this one
		c.mu.Unlock()
		return
	case !c.bodyDone.Load(): // reading the body will tell; until then what was received is the reader's
		c.watch.Reset(watchAfter)
		c.mu.Unlock()
		return
	case c.to == len(c.in):
		c.mu.Unlock()
		return
	}
	looks := make(chan struct{})
	c.looks = looks
	at := c.in[c.to : c.to+1]
	c.mu.Unlock()

	n, err := c.nc.Read(at)

	c.mu.Lock()
	defer c.mu.Unlock()
	for n == 0 && c.wants && timedOut(err) { // the deadline was the nap's
		_ = c.nc.SetReadDeadline(c.longest(time.Now())) // the read will report it
		c.mu.Unlock()
		n, err = c.nc.Read(at)
		c.mu.Lock()
	}
	c.to += n
	if n == 0 && c.wants && !timedOut(err) {
		c.gone = true
		c.cancel()
		if c.away != nil {
			_ = c.away.SetDeadline(past)
		}
	}
	c.looks = nil
	close(looks)
}

// stopWatching returns when nobody else reads from the client.
func (c *conn) stopWatching() {
	c.watch.Stop()
	c.mu.Lock()
	c.wants = false
	looks := c.looks
	c.mu.Unlock()
	if looks == nil {
		return
	}
	_ = c.nc.SetReadDeadline(past)
	<-looks
	c.retouch()
}

// waitsFor says on which connection the exchange waits, nil for none.
func (c *conn) waitsFor(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = nc
	if c.gone && nc != nil {
		_ = nc.SetDeadline(past)
	}
}
