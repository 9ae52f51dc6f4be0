// Package streams knows the event streams and tunnels that a router relays now. Each ends
// when its tenant's placement is another one than it was opened at: the client connects
// again, and gets to the new owner. So it does when what it was opened with counts no more.
package streams

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// The clients of a tenant that has moved do not all come back at once: its streams end at
// random within apart for each of them, and within Spread at most.
const (
	apart  = 4 * time.Millisecond
	Spread = 4 * time.Second
)

// Streams are those of one router.
type Streams struct {
	chain  *identify.Chain
	mu     sync.Mutex
	open   map[directory.TenantID]*group
	closed bool
	count  *prometheus.GaugeVec

	moved, refused, revoked *reason
}

// A group is the streams of one tenant. Each of them may go on where the tenant is placed as
// seen has it.
type group struct {
	seen    directory.Placement
	streams map[*stream]struct{}
}

// A stream is one that is relayed.
type stream struct {
	at     directory.Placement
	shown  identify.Credential
	end    func(h1.Ending)
	leaves bool // soon, because the tenant has moved
}

// A reason is why a stream is ended.
type reason struct {
	count *prometheus.CounterVec
	said  h1.Ending
}

// New makes Streams whose credentials chain knows.
func New(reg prometheus.Registerer, chain *identify.Chain) *Streams {
	s := &Streams{
		chain: chain,
		open:  map[directory.TenantID]*group{},
		count: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "router_streams_open", Help: "Event streams and WebSockets that are relayed now, by cell.",
		}, []string{"cell"}),
	}
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "router_streams_moved_total", Help: "Event streams and WebSockets that were ended because the tenant had moved, or was suspended or deleted, by the cell that they went to.",
	}, []string{"cell"})
	revoked := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "router_streams_revoked_total", Help: "Event streams and WebSockets that were ended because the credential that they were opened with was revoked or has expired, by cell.",
	}, []string{"cell"})
	s.moved = &reason{ended, h1.Ending{Code: 1012, Reason: "the tenant has moved; connect again"}}
	s.refused = &reason{ended, h1.Ending{Code: 1008, Reason: "the tenant is not served"}}
	s.revoked = &reason{revoked, h1.Ending{Code: 1008, Reason: "the credential is not valid any more"}}
	reg.MustRegister(s.count, ended, revoked)
	return s
}

// Add watches a stream until done is called: end is called once, when the stream
// must end. t and the credential are looked at after the stream is known, so no
// change is missed.
func (s *Streams) Add(t *table.Table, at directory.Placement, shown identify.Credential, end func(h1.Ending)) (done func()) {
	x := &stream{at: at, shown: shown, end: end}
	s.mu.Lock()
	if s.open[at.Tenant] == nil {
		s.open[at.Tenant] = &group{seen: at, streams: map[*stream]struct{}{}}
	}
	s.open[at.Tenant].streams[x] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	s.count.WithLabelValues(string(at.Cell)).Inc()
	left, _ := s.chain.Counts(shown)
	now, _ := t.View().ByID(at.Tenant)
	if why := s.over(x, now.Placement); closed {
		s.finish(x, func() { x.end(h1.Leaving) })
	} else if why != nil {
		s.finish(x, func() { x.end(why.said) })
	}
	stop := func() bool { return true }
	if left > 0 {
		stop = time.AfterFunc(left, func() { s.finish(x, x.because(s.revoked)) }).Stop
	}
	return func() {
		stop()
		s.finish(x, func() {})
		s.count.WithLabelValues(string(at.Cell)).Dec()
	}
}

// finish forgets a stream and calls end, unless that has been done.
func (s *Streams) finish(x *stream, end func()) {
	s.mu.Lock()
	there := false
	if g := s.open[x.at.Tenant]; g != nil {
		_, there = g.streams[x]
		if delete(g.streams, x); len(g.streams) == 0 {
			delete(s.open, x.at.Tenant)
		}
	}
	s.mu.Unlock()
	if there {
		end()
	}
}

// Watch ends streams as the table changes, until ctx ends. It asks once for each
// table where the tenants that have streams are, and looks at the streams of those
// that are placed anew; at all of them where credentials have changed. No stream has
// a goroutine of its own for that.
func (s *Streams) Watch(ctx context.Context, t *table.Table) {
	var before <-chan struct{}
	for ctx.Err() == nil {
		changed := s.chain.Changed()
		v, gone := s.gone(t, changed != before)
		before = changed
		for x, why := range gone {
			s.finish(x, x.because(why))
		}
		select {
		case <-v.Replaced():
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// gone are the streams that must end now, and why. Those of a tenant that has moved end
// one after the other: until then each stays known, for it may have to end sooner. v is
// what they were looked at with: no stream that is known by then was opened by a newer one.
// Where all is false, credentials are as they were at the last look.
func (s *Streams) gone(t *table.Table, all bool) (v *table.View, gone map[*stream]*reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, gone = t.View(), map[*stream]*reason{}
	for id, g := range s.open {
		now, _ := v.ByID(id)
		if !all && now.Placement == g.seen {
			continue
		}
		g.seen = now.Placement
		within := min(time.Duration(len(g.streams))*apart, Spread)
		for x := range g.streams {
			switch why := s.over(x, now.Placement); {
			case why == nil:
			case why != s.moved:
				gone[x] = why
			case !x.leaves:
				x.leaves = true
				time.AfterFunc(rand.N(within), func() { s.finish(x, x.because(why)) }) //nolint:gosec // nobody gains by guessing it
			}
		}
	}
	return v, gone
}

// over is why x must end where its tenant is placed so, nil where it may go on. The zero
// Placement is of a tenant that is gone.
func (s *Streams) over(x *stream, now directory.Placement) *reason {
	if _, ok := s.chain.Counts(x.shown); !ok {
		return s.revoked
	}
	switch {
	case now.State != directory.Active && now.State != directory.Cutover:
		return s.refused
	case x.at.Cell != now.Cell || x.at.Epoch != now.Epoch:
		return s.moved
	}
	return nil
}

// because ends x and counts it.
func (x *stream) because(why *reason) func() {
	return func() {
		why.count.WithLabelValues(string(x.at.Cell)).Inc()
		x.end(why.said)
	}
}

// Close ends every stream, and each that is opened after it.
func (s *Streams) Close() {
	s.mu.Lock()
	s.closed = true
	var all []*stream
	for _, g := range s.open {
		for x := range g.streams {
			all = append(all, x)
		}
	}
	s.mu.Unlock()
	for _, x := range all {
		s.finish(x, func() { x.end(h1.Leaving) })
	}
}
