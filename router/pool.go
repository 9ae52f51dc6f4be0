package router

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
)

// CellLimits bound what one cell may take of the router.
type CellLimits struct {
	Requests int           // at once; as many again may wait for a place
	Wait     time.Duration // for a place; 0 is 250 ms
	Timeout  time.Duration // for the head of the answer
	Streams  int           // event streams at once, besides; 0 is 1024
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
	connections func(CellLimits) T // of a new pool
	limits      CellLimits
	mu          sync.RWMutex
	cells       map[directory.CellID]*pool[T]
}

// A pool is the connections to one cell, kept as T, and the places for requests
// to it, so that a cell that is slow uses up its own places and nobody else's.
type pool[T any] struct {
	connections T
	places      chan struct{}
	streams     chan struct{}
	waiting     atomic.Int64
	wait        time.Duration
}

func newPools[T any](l CellLimits, connections func(CellLimits) T) *pools[T] {
	if l.Wait <= 0 {
		l.Wait = defaultWait
	}
	if l.Streams <= 0 {
		l.Streams = defaultStreams
	}
	return &pools[T]{connections: connections, limits: l, cells: map[directory.CellID]*pool[T]{}}
}

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
		one = &pool[T]{
			connections: p.connections(p.limits), places: make(chan struct{}, p.limits.Requests),
			streams: make(chan struct{}, p.limits.Streams), wait: p.limits.Wait,
		}
		p.cells[id] = one
	}
	return one
}

// each calls f with the connections of every pool.
func (p *pools[T]) each(f func(T)) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, one := range p.cells {
		f(one.connections)
	}
}

func newTransport(l CellLimits) *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  l.Timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    l.Requests,
		MaxConnsPerHost:        l.Requests + l.Streams,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // the answer is relayed as it is
	}
}

// try takes a place if one is free.
func (p *pool[T]) try() bool {
	select {
	case p.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// acquire takes a place, waiting for one for a bounded time among a bounded
// number of others.
func (p *pool[T]) acquire(ctx context.Context) error {
	if p.try() {
		return nil
	}
	if p.waiting.Add(1) > int64(cap(p.places)) {
		p.waiting.Add(-1)
		return unavailable(nil, "too many requests wait for the owning cell")
	}
	defer p.waiting.Add(-1)
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case p.places <- struct{}{}:
		return nil
	case <-timer.C:
		return unavailable(nil, "the owning cell is busy")
	case <-ctx.Done():
		return unavailable(ctx.Err(), "the owning cell is busy")
	}
}

func (p *pool[T]) release() { <-p.places }

// takeStream takes a place for a stream, if one is free.
func (p *pool[T]) takeStream() bool {
	select {
	case p.streams <- struct{}{}:
		return true
	default:
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
