package peers

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// generate sends requests as spec says and measures each from when it was to be
// sent, not from when a connection was free for it: a proxy that stalls delays
// all that were due meanwhile (coordinated omission). One thread, one loop.
func generate(spec loadSpec) (loadResult, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer p.close()
	g := &generator{loadSpec: spec, p: p, in: make([]byte, 256<<10), body: make([]byte, spec.Body), hist: new(histogram)}
	defer g.hangUp()
	for range spec.Conns {
		if err := g.connect(); err != nil {
			return loadResult{}, err
		}
	}
	if err := g.run(); err != nil {
		return loadResult{}, err
	}
	return g.result(), nil
}

// A generator is one run's state.
type generator struct {
	loadSpec
	p       *poller
	in      []byte
	body    []byte
	hist    *histogram
	conns   []*loadConn // by file descriptor
	idle    fifo[*loadConn]
	backlog fifo[time.Duration] // when requests were due for which no connection was free
	base    time.Time
	sent    int
	done    int
	failed  int
	took    time.Duration
}

// A loadConn has at most one request under way.
type loadConn struct {
	fd int
	framing
	head []byte
	out  [2][]byte // of the request: what is still to be sent of head and body
	due  time.Duration
	busy bool
}

func (g *generator) connect() error {
	fd, err := dial(g.Addr)
	if err != nil {
		return err
	}
	for len(g.conns) <= fd {
		g.conns = append(g.conns, nil)
	}
	c := &loadConn{fd: fd}
	g.conns[fd] = c
	g.idle.push(c)
	return g.p.add(fd)
}

func (g *generator) hangUp() {
	for _, c := range g.conns {
		if c != nil {
			_ = syscall.Close(c.fd)
		}
	}
}

// drain is how long answers may take after the last request was due.
const drain = time.Second

func (g *generator) run() error {
	var interval time.Duration
	if g.Rate > 0 {
		interval = time.Second / time.Duration(g.Rate)
	}
	g.base = time.Now()
	var next time.Duration
	for {
		now := time.Since(g.base)
		for g.Rate > 0 && next <= now && next < g.For {
			g.backlog.push(next)
			next += interval
		}
		for g.idle.len() > 0 && (g.backlog.len() > 0 || g.Rate == 0 && now < g.For) {
			due := now
			if g.Rate > 0 {
				due = g.backlog.pop()
			}
			g.send(g.idle.pop(), due)
		}
		g.took = min(now, g.For)
		pause := g.For + drain - now
		switch {
		case now >= g.For && g.busy() == 0 && g.backlog.len() == 0, pause <= 0:
			return nil
		case g.Rate > 0 && next < g.For:
			pause = max(0, next-now)
		case now < g.For:
			pause = g.For - now
		}
		events, err := g.p.wait(pause)
		if err != nil {
			return err
		}
		for _, e := range events {
			if c := g.conns[e.Fd]; c != nil {
				if err := g.drive(c); err != nil {
					return err
				}
			}
		}
	}
}

func (g *generator) busy() int { return g.sent - g.done - g.failed }

// send starts a request for the next tenant. Tenants take turns in a fixed,
// scattered order, so that no look-up is of a tenant just asked for.
func (g *generator) send(c *loadConn, due time.Duration) {
	tenant := (g.sent * 7919) % max(1, g.Tenants)
	g.sent++
	c.head = append(c.head[:0], g.Method...)
	c.head = append(c.head, ' ')
	c.head = append(c.head, g.Path...)
	c.head = append(c.head, " HTTP/1.1\r\nHost: "...)
	c.head = appendHost(c.head, tenant)
	if g.Body > 0 {
		c.head = fmt.Appendf(c.head, "\r\nContent-Length: %d", g.Body)
	}
	if g.Close {
		c.head = append(c.head, "\r\nConnection: close"...)
	}
	c.head = append(c.head, "\r\nUser-Agent: peers\r\nAccept: */*\r\n\r\n"...)
	c.out, c.due, c.busy = [2][]byte{c.head, g.body}, due, true
	_ = g.flush(c) // an error shows again when the connection is read
}

func (g *generator) flush(c *loadConn) error {
	for i := range c.out {
		for len(c.out[i]) > 0 {
			n, errno := rawCall(syscall.SYS_WRITE, c.fd, c.out[i])
			if errno == syscall.EAGAIN {
				return nil
			}
			if errno != 0 {
				return fmt.Errorf("send request: %w", errno)
			}
			c.out[i] = c.out[i][n:]
		}
	}
	return nil
}

// drive does what a connection allows now. A connection that breaks is replaced,
// and its request has failed.
func (g *generator) drive(c *loadConn) error {
	if len(c.out[0])+len(c.out[1]) > 0 && g.flush(c) != nil {
		return g.replace(c)
	}
	for {
		n, errno := rawCall(syscall.SYS_READ, c.fd, g.in)
		switch {
		case errno == syscall.EAGAIN:
			return nil
		case errno != 0 || n == 0:
			return g.replace(c)
		}
		_, whole, err := c.feed(g.in[:n])
		switch {
		case err != nil || whole && !c.busy:
			return g.replace(c)
		case whole:
			return g.answered(c) // the next answer is another event: its request is not sent yet
		case n < len(g.in):
			return nil
		}
	}
}

func (g *generator) answered(c *loadConn) error {
	c.busy = false
	if c.ok() {
		g.done++
		g.hist.add(time.Since(g.base) - c.due)
	} else {
		g.failed++
	}
	if g.Close {
		return g.replace(c)
	}
	g.idle.push(c)
	return nil
}

// maxBroken bounds the requests of a run that may fail before it is given up.
const maxBroken = 1000

func (g *generator) replace(c *loadConn) error {
	g.conns[c.fd] = nil
	_ = syscall.Close(c.fd)
	if c.busy {
		g.failed++
	}
	if g.failed > maxBroken {
		return fmt.Errorf("%s: %d requests failed", g.Addr, g.failed)
	}
	return g.connect()
}

// result counts what has no answer as late by as much as it already is.
func (g *generator) result() loadResult {
	now := time.Since(g.base)
	for _, c := range g.conns {
		if c != nil && c.busy {
			g.hist.add(now - c.due)
		}
	}
	for unsent := g.backlog.len(); unsent > 0; unsent-- {
		g.hist.add(now - g.backlog.pop())
		g.failed++
	}
	return loadResult{
		Done: g.done, Failed: g.failed + g.busy(), Took: g.took,
		P50: g.hist.quantile(0.5), P99: g.hist.quantile(0.99), P999: g.hist.quantile(0.999),
	}
}
