package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// A cell with requests under way that has said nothing for suspectAfter is
	// asked whether it is there. It has probeTimeout to say so.
	suspectAfter = 500 * time.Millisecond
	probeTimeout = 1500 * time.Millisecond
	// probePause is between two probes of a cell whose circuit is open, give or
	// take a third: routers must not ask in step.
	probePause = 250 * time.Millisecond
	// forgetAfter is when nobody's asking for a cell ends its probes.
	forgetAfter = 30 * time.Second
)

// A circuit is what the router knows of a cell's health. What opens it is one
// thing only: the cell, asked by the router itself, gives no answer that is
// HTTP. Requests that fail, or take long, are only a reason to ask; so no tenant
// and no route can close a cell to the others. A 5xx is an answer.
//
// While it is open nobody waits for the cell: a probe of the router's, one at a
// time, finds out when it is back.
type circuit struct {
	open   atomic.Bool
	opened atomic.Int64 // how often
	probes atomic.Int64
	heard  atomic.Int64           // when the cell last said something, or was first asked after silence
	asked  atomic.Int64           // when a request last wanted it
	wanted atomic.Pointer[string] // the address that requests go to; nil: none has come

	clock   func() time.Duration
	probe   func(ctx context.Context, address string) error
	back    func()          // called when the circuit closes
	ctx     context.Context // of probes
	running *sync.WaitGroup // counts them
	mu      sync.Mutex
	asking  bool
	address string // that the probes are for
}

// admits reports whether a request may go to the cell at address, while inside
// others are under way.
func (c *circuit) admits(address string, inside int64) bool {
	if at := c.wanted.Load(); at == nil || *at != address {
		moved := address // or the parameter would be allocated each time
		c.wanted.Store(&moved)
	}
	now := c.clock()
	if c.open.Load() {
		c.asked.Store(int64(now))
		return c.elsewhere(address)
	}
	switch {
	case inside == 0:
		c.heard.Store(int64(now))
	case c.silentAt(now):
		c.suspect(address)
	}
	return true
}

// silent reports whether the cell has said nothing for long enough to be asked.
func (c *circuit) silent() bool { return c.silentAt(c.clock()) }

func (c *circuit) silentAt(now time.Duration) bool {
	return now-time.Duration(c.heard.Load()) > suspectAfter
}

// elsewhere reports whether address is not the one that is known to be dead. The
// request that finds out is the first to try it.
func (c *circuit) elsewhere(address string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.address == address {
		return false
	}
	c.address = address
	c.close()
	return true
}

// left reports whether requests go to another address than this one.
func (c *circuit) left(address string) bool {
	at := c.wanted.Load()
	return at != nil && *at != address
}

// hears notes that the cell has said something.
func (c *circuit) hears() { c.heard.Store(int64(c.clock())) }

// suspect starts asking the cell whether it is there, unless that is under way. What it is
// at an address that requests have left tells nothing of it.
func (c *circuit) suspect(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asking || c.left(address) || c.ctx.Err() != nil {
		return
	}
	c.asking, c.address = true, address
	c.asked.Store(int64(c.clock()))
	c.running.Go(c.run)
}

// run asks until the cell answers, or nobody wants it any more at that address, or ctx ends.
func (c *circuit) run() {
	for {
		c.mu.Lock()
		address := c.address
		c.mu.Unlock()
		alive, known := c.ask(address)
		c.mu.Lock()
		if known && alive || c.left(address) || !known && !c.open.Load() || c.ctx.Err() != nil || c.clock()-time.Duration(c.asked.Load()) > forgetAfter {
			c.close()
			c.asking = false
			c.mu.Unlock()
			return
		}
		if known && !c.open.Swap(true) {
			c.opened.Add(1)
		}
		c.mu.Unlock()
		pause := time.NewTimer(probePause*2/3 + rand.N(probePause*2/3)) //nolint:gosec // jitter
		select {
		case <-pause.C:
		case <-c.ctx.Done():
			pause.Stop()
		}
	}
}

// close lets requests to the cell again. The caller has the lock.
func (c *circuit) close() {
	c.hears()
	if c.open.Swap(false) {
		c.back()
	}
}

// ask is one probe. What only says that this machine is out of something says
// nothing (!known) of the cell.
func (c *circuit) ask(address string) (alive, known bool) {
	ctx, cancel := context.WithTimeout(c.ctx, probeTimeout)
	defer cancel()
	c.probes.Add(1)
	err := c.probe(ctx, address)
	for _, ours := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, ours) {
			return false, false
		}
	}
	return err == nil, true
}

// A budget bounds what is sent again to a cell: one in twenty of what was sent
// at first, and a few to begin with. When all fails, sending again is what makes
// it worse.
type budget struct {
	cents   atomic.Int64 // a repeat costs 100
	repeats atomic.Int64
	refused atomic.Int64
}

const (
	repeatCost   = 100
	repeatEarned = 5        // by each request
	repeatsSaved = 10 * 100 // at most
)

// earn notes a first attempt.
func (b *budget) earn() {
	if n := b.cents.Load(); n < repeatsSaved {
		b.cents.CompareAndSwap(n, n+repeatEarned) // losing one to another request does not matter
	}
}

// spend reports whether a request may be sent again.
func (b *budget) spend() bool {
	for {
		n := b.cents.Load()
		if n < repeatCost {
			b.refused.Add(1)
			return false
		}
		if b.cents.CompareAndSwap(n, n-repeatCost) {
			b.repeats.Add(1)
			return true
		}
	}
}
