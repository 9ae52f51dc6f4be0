package router

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/h1"
)

// CellLimits bound what one cell may take of the router.
type CellLimits struct {
	Requests int           // at once; as many again may wait for a place
	Least    int           // the limit never goes under it; 0 is a sixteenth of Requests
	Wait     time.Duration // for a place; 0 is 250 ms
	Connect  time.Duration // to make a connection and, again, its TLS; 0 is 2 s
	Timeout  time.Duration // for the head of the answer
	Streams  int           // event streams at once, besides; 0 is 1024

	Files *h1.Files // bounds the connections to all cells; nil: the kernel does

	// Trust is how to make TLS to a cell whose address is https; nil can not.
	Trust func(directory.CellID) *tls.Config
}

const (
	dialTimeout = 2 * time.Second
	idleTimeout = 90 * time.Second
	defaultWait = 250 * time.Millisecond

	defaultStreams = 1024
	maxHead        = 64 << 10 // bytes of an answer's head
)

// pools has a pool for each cell.
type pools[T any] struct {
	connections func(directory.CellID, CellLimits) T // of a new pool
	probe       func(ctx context.Context, connections T, address string) error
	limits      CellLimits
	began       time.Time
	ctx         context.Context // of probes
	stop        context.CancelFunc
	probing     sync.WaitGroup

	mu    sync.RWMutex
	cells map[directory.CellID]*pool[T]
}

// A pool is the connections to one cell, kept as T, the places for requests to
// it, so that a cell that is slow uses up its own places and nobody else's, and
// what is known of its health.
type pool[T any] struct {
	connections T
	gate        *gate
	circuit     circuit
	budget      budget
	attempts    atomic.Int64
	streams     chan struct{}
}

// newPools makes pools; probe asks a cell whether it is there.
func newPools[T any](l CellLimits, connections func(directory.CellID, CellLimits) T, probe func(context.Context, T, string) error) *pools[T] {
	if l.Wait <= 0 {
		l.Wait = defaultWait
	}
	if l.Connect <= 0 {
		l.Connect = dialTimeout
	}
	if l.Streams <= 0 {
		l.Streams = defaultStreams
	}
	p := &pools[T]{connections: connections, probe: probe, limits: l, began: time.Now(), cells: map[directory.CellID]*pool[T]{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// clock is the time since the pools were made: it never goes backwards.
func (p *pools[T]) clock() time.Duration { return time.Since(p.began) }

// of is the cell's pool. There are as many as the directory has had cells.
func (p *pools[T]) of(id directory.CellID) *pool[T] {
	p.mu.RLock()
	one := p.cells[id]
	p.mu.RUnlock()
	if one != nil {
		return one
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if one = p.cells[id]; one == nil {
		one = p.add(id)
		p.cells[id] = one
	}
	return one
}

func (p *pools[T]) add(id directory.CellID) *pool[T] {
	one := &pool[T]{
		connections: p.connections(id, p.limits), gate: newGate(p.limits.Requests, p.limits.Least, p.limits.Wait, p.clock),
		streams: make(chan struct{}, p.limits.Streams),
	}
	one.budget.cents.Store(repeatsSaved)
	c := &one.circuit
	c.clock, c.back, c.ctx, c.running = p.clock, one.gate.restart, p.ctx, &p.probing
	c.probe = func(ctx context.Context) error {
		one.attempts.Add(1)
		return p.probe(ctx, one.connections, c.at())
	}
	return one
}

// close ends the probes and calls f with the connections of every pool.
func (p *pools[T]) close(f func(T)) {
	p.stop()
	p.probing.Wait()
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, one := range p.cells {
		f(one.connections)
	}
}

func newTransport(l CellLimits) *http.Transport {
	dialer := &net.Dialer{Timeout: l.Connect, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return l.Files.Dial(ctx, func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, addr) })
		},
		TLSHandshakeTimeout:    l.Connect,
		ResponseHeaderTimeout:  l.Timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    l.Requests,
		MaxConnsPerHost:        l.Requests + l.Streams,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // the answer is relayed as it is
	}
	l.Files.Join(&keeper{t, l.Files})
	return t
}

// A keeper has a transport's idle connections, of which it can only close all.
type keeper struct {
	transport *http.Transport
	files     *h1.Files
}

// DropIdle implements h1.Keeper.
func (k *keeper) DropIdle() int {
	before, _, _, _ := k.files.Counts()
	k.transport.CloseIdleConnections()
	after, _, _, _ := k.files.Counts()
	return int(max(before-after, 0)) // others come and go meanwhile: who was told too few asks the next
}

// acquire takes a place for r, waiting for one for a bounded time among a
// bounded number of others, unless the cell is known to be away.
func (p *pool[T]) acquire(r *http.Request, to Target) error {
	c := classOf(r.Method, r.Header.Get("Priority"), r.Header.Get("Accept"))
	if !p.circuit.admits(to.Address, p.gate.inside.Load()) {
		p.gate.shed[c][shedOpen].Add(1)
		return unavailable(nil, "the owning cell does not answer")
	}
	if err := p.gate.enter(r.Context(), c, to.Deadline); err != nil {
		return err
	}
	p.sends()
	return nil
}

// try takes a place for a request to the cell at address if one is free. Where it
// is not, acquire says why.
func (p *pool[T]) try(c class, address string) bool {
	if p.circuit.open.Load() || !p.circuit.admits(address, p.gate.inside.Load()) || !p.gate.pass(c) {
		return false
	}
	p.sends()
	return true
}

// sends counts a first attempt.
func (p *pool[T]) sends() {
	p.budget.earn()
	p.attempts.Add(1)
}

func (p *pool[T]) release() { p.gate.exit() }

// answered notes that the cell has answered after took, or (!ok) that it has
// not; telling says whether that tells something of the cell.
func (p *pool[T]) answered(took time.Duration, ok, telling bool) {
	if ok {
		p.circuit.hears()
	}
	if telling {
		p.gate.answered(took)
	}
}

// telling reports whether the time of r's answer is the cell's, and not that of
// a client who uploads or has left.
func telling(r *http.Request) bool {
	return r.ContentLength >= 0 && r.ContentLength <= keptBody && awaited(r)
}

// again reports whether a request that the cell did not read may be sent again.
func (p *pool[T]) again() bool {
	if !p.budget.spend() {
		return false
	}
	p.attempts.Add(1)
	return true
}

// failed notes that to did not answer, or not in HTTP: reason enough to ask it.
func (p *pool[T]) failed(to Target) { p.circuit.suspect(to.Address) }

// takeStream takes a place for a stream, if one is free.
func (p *pool[T]) takeStream() bool {
	select {
	case p.streams <- struct{}{}:
		return true
	default:
		p.gate.shed[background][shedStreams].Add(1)
		return false
	}
}

func (p *pool[T]) leaveStream() { <-p.streams }

// buffers lends the memory through which answers are copied.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte { return b.pool.Get().(*[bufferSize]byte)[:] }

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}
