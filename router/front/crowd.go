package front

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// A crowd is so many at once, of which one address has no more than its share. Where it is
// full, or the share is, who has been in it for longest gives way to who pushes, if that is long.
type crowd struct {
	most, share int
	patience    time.Duration // where it is full
	own         time.Duration // where a share is: longer, as honest clients behind one address would push each other out, and all come back

	mu     sync.Mutex
	inside list.List                   // of *guest, who came first in front
	of     map[netip.Prefix]*list.List // its guests, as inside
}

// Why a crowd lets nobody in.
var (
	errFull  = problem.New(problem.Unavailable, "too many requests wait for what their clients send").After(time.Second)
	errShare = problem.New(problem.RateLimited, "too many requests of your address wait for what their clients send").After(time.Second)
)

// A guest is one of a crowd.
type guest struct {
	from  netip.Prefix // whose share it counts in; the zero value: nobody's
	cut   func()       // makes it leave; called once at most, and never after leave
	since time.Time
	place *list.Element // inside; nil: outside
	own   *list.Element // of its address; nil: it counts in nobody's share
	left  chan struct{} // closed when cut has returned; nil: it was not called
}

// newCrowd makes a crowd of which one address has an eighth.
func newCrowd(most int, patience, own time.Duration) *crowd {
	return &crowd{most: most, share: most / 8, patience: patience, own: own, of: map[netip.Prefix]*list.List{}}
}

// enter lets g in, or says why not. Others may have to give way only where it is pushing.
func (c *crowd) enter(g *guest, pushing bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.since = time.Now()
	var first *list.Element
	var full error
	patience := c.patience
	switch own := c.of[g.from]; {
	case own != nil && own.Len() >= c.share:
		first, full, patience = own.Front(), errShare, c.own
	case c.inside.Len() >= c.most:
		first, full = c.inside.Front(), errFull
	}
	if first != nil && !(pushing && c.push(first.Value.(*guest), g.since.Add(-patience))) {
		return full
	}
	g.place = c.inside.PushBack(g)
	if !g.from.IsValid() {
		return nil
	}
	if c.of[g.from] == nil {
		c.of[g.from] = list.New()
	}
	g.own = c.of[g.from].PushBack(g)
	return nil
}

// push makes g give way, if it was inside at a time. The caller has the lock.
func (c *crowd) push(g *guest, since time.Time) bool {
	if g.since.After(since) {
		return false
	}
	c.remove(g)
	g.left = make(chan struct{})
	go func() { // it may wait for its connection, for which nobody else is to wait here
		defer close(g.left)
		g.cut()
	}()
	return true
}

// leave is for who was let in, and reports whether it had to: then that is over. It may
// be called again.
func (c *crowd) leave(g *guest) (cut bool) {
	c.mu.Lock()
	if g.place != nil {
		c.remove(g)
	}
	left := g.left
	c.mu.Unlock()
	if left == nil {
		return false
	}
	<-left
	return true
}

// remove takes g out. The caller has the lock.
func (c *crowd) remove(g *guest) {
	c.inside.Remove(g.place)
	g.place = nil
	if g.own == nil {
		return
	}
	own := c.of[g.from]
	if own.Remove(g.own); own.Len() == 0 {
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
