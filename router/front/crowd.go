package front

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A crowd is so many at once, of which one address has no more than its share. Where it
// is full, who has been in it for longest gives way, if that is long.
type crowd struct {
	most, share int
	patience    time.Duration

	mu     sync.Mutex
	inside list.List // of *guest, who came first in front
	of     map[netip.Prefix]int
}

// A guest is one of a crowd.
type guest struct {
	from  netip.Prefix // whose share it counts in; the zero value: nobody's
	cut   func()       // makes it leave; called once at most, and never after leave. nil: it never has to
	since time.Time
	place *list.Element // nil: outside
	left  chan struct{} // closed when cut has returned; nil: it was not called
}

// newCrowd makes a crowd of which one address has an eighth.
func newCrowd(most int, patience time.Duration) *crowd {
	return &crowd{most: most, share: most / 8, patience: patience, of: map[netip.Prefix]int{}}
}

// enter lets g in, or not.
func (c *crowd) enter(g *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.since = time.Now()
	if g.from.IsValid() && c.of[g.from] >= c.share {
		return false
	}
	if c.inside.Len() >= c.most {
		first := c.inside.Front().Value.(*guest)
		if first.cut == nil || g.since.Sub(first.since) < c.patience {
			return false
		}
		c.remove(first)
		first.left = make(chan struct{})
		go func() { // it may wait for its connection, for which nobody else is to wait here
			defer close(first.left)
			first.cut()
		}()
	}
	g.place = c.inside.PushBack(g)
	if g.from.IsValid() {
		c.of[g.from]++
	}
	return true
}

// leave is for who was let in. It may be called again. Where g was cut, that is over.
func (c *crowd) leave(g *guest) {
	c.mu.Lock()
	if g.place != nil {
		c.remove(g)
	}
	left := g.left
	c.mu.Unlock()
	if left != nil {
		<-left
	}
}

// remove takes g out. The caller has the lock.
func (c *crowd) remove(g *guest) {
	c.inside.Remove(g.place)
	g.place = nil
	if !g.from.IsValid() {
		return
	}
	if c.of[g.from]--; c.of[g.from] == 0 {
		delete(c.of, g.from)
	}
}

// addressOf is whose share a peer's is: its address, of IPv6 the /64, which one client
// has all of.
func addressOf(peer net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // cannot fail: as many bits as there are
	return p
}
