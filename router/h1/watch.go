package h1

import (
	"net"
	"sync"
	"time"
)

const (
	watchAfter = 50 * time.Millisecond // when an exchange that takes long gets a watcher
	askEvery   = time.Second           // the kernel, where there is no room for more
)

// A watcher looks, while a handler works for long, whether the client is still
// there. Most exchanges end before it starts. A client that closes its half of
// the connection has left, also behind a request that it has sent meanwhile, of which
// net/http does not look at more than a byte.
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

// look waits for bytes or the end of the client's half, as often as bytes come: they belong
// to the next requests.
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
		if c.hungUp() {
			c.part()
		} else {
			c.watch.Reset(askEvery)
		}
		c.mu.Unlock()
		return
	}
	looks := make(chan struct{})
	c.looks = looks
	at := c.in[c.to:]
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
	switch {
	case !c.wants:
	case n > 0:
		c.watch.Reset(watchAfter)
	case !timedOut(err):
		c.part()
	}
	c.looks = nil
	close(looks)
}

// part ends the exchange of a client that has left. The caller has the lock.
func (c *conn) part() {
	c.gone = true
	c.cancel()
	if c.away != nil {
		_ = c.away.SetDeadline(past)
	}
}

// hungUp reports whether the client sends no more than waits in the kernel.
func (c *conn) hungUp() (yes bool) {
	if raw := c.rawSocket(); raw != nil {
		_ = raw.Control(func(fd uintptr) { yes = hungUp(fd) }) // a closed one has no client
	}
	return yes
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
