// Package pool bounds what one cell may take of a router, and keeps what the router knows
// of the cell's health: an adaptive limit with a queue, a circuit, and a budget of repeats
// (docs/decisions/0012).
package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/h1"
)

// Limits bound what one cell may take of the router.
type Limits struct {
	Requests int           // at once; as many again may wait for a place
	Least    int           // the limit does not shrink under it; 0 is a sixteenth of Requests
	Wait     time.Duration // for a place; 0 is 250 ms
	Connect  time.Duration // to make a connection and, again, its TLS; 0 is 2 s
	Timeout  time.Duration // for the head of the answer
	Streams  int           // event streams at once, besides, and as many exchanges with slow clients; 0 is 1024

	Files *h1.Files // bounds the connections to all cells; nil: the kernel does

	// Trust is how to make TLS to a cell whose address is https; nil can not.
	Trust func(directory.CellID) *tls.Config
}

const (
	defaultConnect = 2 * time.Second
	defaultWait    = 250 * time.Millisecond
	defaultStreams = 1024
)

// Pools has a Pool for each cell.
type Pools[T any] struct {
	connections func(directory.CellID, Limits) T // of a new pool
	probe       func(ctx context.Context, connections T, address string) error
	Limits
	began   time.Time
	ctx     context.Context // of probes
	stop    context.CancelFunc
	probing sync.WaitGroup

	mu    sync.RWMutex
	cells map[directory.CellID]*Pool[T]
}

// A Pool is the connections to one cell, kept as T, the places for requests to
// it, so that a cell that is slow uses up its own places and nobody else's, and
// what is known of its health.
type Pool[T any] struct {
	Connections T
	gate        *gate
	circuit     circuit
	budget      budget
	attempts    atomic.Int64
	streams     places
	slow        places
	cut         atomic.Int64 // exchanges for which there was none of slow
}

// New makes Pools; probe asks a cell whether it is there.
func New[T any](l Limits, connections func(directory.CellID, Limits) T, probe func(context.Context, T, string) error) *Pools[T] {
	if l.Wait <= 0 {
		l.Wait = defaultWait
	}
	if l.Connect <= 0 {
		l.Connect = defaultConnect
	}
	if l.Streams <= 0 {
		l.Streams = defaultStreams
	}
	p := &Pools[T]{connections: connections, probe: probe, Limits: l, began: time.Now(), cells: map[directory.CellID]*Pool[T]{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// clock is the time since the pools were made: it never goes backwards.
func (p *Pools[T]) clock() time.Duration { return time.Since(p.began) }

// Of is the cell's pool. There are as many as the directory has had cells.
func (p *Pools[T]) Of(id directory.CellID) *Pool[T] {
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

func (p *Pools[T]) add(id directory.CellID) *Pool[T] {
	one := &Pool[T]{
		Connections: p.connections(id, p.Limits), gate: newGate(p.Requests, p.Least, p.Wait, p.clock),
	}
	one.budget.cents.Store(repeatsSaved)
	one.streams.open(p.Streams)
	one.slow.open(p.Streams)
	c := &one.circuit
	c.clock, c.back, c.ctx, c.running = p.clock, one.gate.restart, p.ctx, &p.probing
	c.probe = func(ctx context.Context, address string) error {
		one.attempts.Add(1)
		return p.probe(ctx, one.Connections, address)
	}
	return one
}

// Close ends the probes and calls f with the connections of every pool.
func (p *Pools[T]) Close(f func(T)) {
	p.stop()
	p.probing.Wait()
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, one := range p.cells {
		f(one.Connections)
	}
}

// Acquire takes a place for r, a request of the tenant's, waiting for one for a bounded time among a
// bounded number of others, unless the cell is known to be away.
func (p *Pool[T]) Acquire(r *http.Request, t directory.TenantID, address string, deadline time.Time) error {
	w, err := p.Enter(t, r.Method, r.Header.Get("Priority"), r.Header.Get("Accept"), address, deadline)
	if w == nil {
		return err
	}
	return p.Await(r.Context(), w)
}

// Enter is Acquire without the waiting, for a request of which method and two fields are
// told: where it would have to wait, its place in the queue is not nil.
func (p *Pool[T]) Enter(t directory.TenantID, method, priority, accept, address string, deadline time.Time) (*Turn, error) {
	c := classOf(method, priority, accept)
	if !p.circuit.admits(address, p.gate.inside.Load()) {
		p.gate.shed[c][shedOpen].Add(1)
		return nil, Unavailable(nil, "the owning cell does not answer")
	}
	w, err := p.gate.arrive(t, c, deadline)
	if w != nil {
		return w, nil
	}
	return nil, p.entered(err)
}

// Await waits until w's turn has come.
func (p *Pool[T]) Await(ctx context.Context, w *Turn) error { return p.entered(p.gate.await(ctx, w)) }

// Abandon is for who does not wait for w's turn.
func (p *Pool[T]) Abandon(w *Turn) { p.gate.abandon(w) }

// entered counts who has a place. err says why somebody has none.
func (p *Pool[T]) entered(err error) error {
	switch {
	case err == nil:
		p.budget.earn()
		p.attempts.Add(1) // the first one
		return nil
	case errors.Is(err, problem.RateLimited) && p.circuit.silent():
		return Unavailable(err, "the owning cell does not answer") // its tenant cannot help it
	}
	return err
}

// Release gives a place of the tenant's back.
func (p *Pool[T]) Release(t directory.TenantID) { p.gate.exit(t) }

// Answered notes that the cell has answered after took, or (!ok) that it has
// not; telling says whether that tells something of the cell.
func (p *Pool[T]) Answered(took time.Duration, ok, telling bool) {
	if ok {
		p.circuit.hears()
	}
	if telling {
		p.gate.answered(took)
	}
}

// Again reports whether a request that the cell did not read may be sent again.
func (p *Pool[T]) Again() bool {
	if !p.budget.spend() {
		return false
	}
	p.attempts.Add(1)
	return true
}

// Failed notes that the cell at address did not answer, or not in HTTP: reason enough to
// ask it.
func (p *Pool[T]) Failed(address string) { p.circuit.suspect(address) }

// ErrNoStream is why a cell that has answered is not available for a stream.
var ErrNoStream = errors.New("the places for streams are taken")

// TakeStream takes a place for a stream of the tenant's, if one is free and the tenant has
// less than its share of them.
func (p *Pool[T]) TakeStream(t directory.TenantID) error {
	switch p.streams.take(t) {
	case shareTaken:
		p.gate.shed[background][shedShare].Add(1)
		return overShare(nil, "event streams of the owning cell")
	case allTaken:
		p.gate.shed[background][shedStreams].Add(1)
		return Unavailable(ErrNoStream, "too many event streams of the owning cell")
	}
	return nil
}

// LeaveStream gives a stream's place back.
func (p *Pool[T]) LeaveStream(t directory.TenantID) { p.streams.leave(t) }

// Slow gives the place of an exchange back whose client is slow: it goes on in a place for
// those, if one is free and the tenant has less than its share of them. Else Slow is false,
// and the exchange is to be cut.
func (p *Pool[T]) Slow(t directory.TenantID) bool {
	ok := p.slow.take(t) == taken
	if !ok {
		p.cut.Add(1)
	}
	p.Release(t)
	return ok
}

// LeaveSlow gives a place for a slow client back.
func (p *Pool[T]) LeaveSlow(t directory.TenantID) { p.slow.leave(t) }

// RetrySoon is when who was told to come back should.
const RetrySoon = time.Second

// Unavailable says that the owning cell does not answer, or not now.
func Unavailable(cause error, detail string) error {
	return problem.Wrap(problem.CellUnavailable, cause, detail).After(RetrySoon)
}
