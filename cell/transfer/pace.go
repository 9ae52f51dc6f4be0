package transfer

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// PaceOptions bound what all moves of a cell, out of it and into it, take
// together. The zero value bounds nothing until the foreground slows down.
type PaceOptions struct {
	Bytes   int64         // per second, at most; 0 is no bound
	Rows    int64         // per second, at most; 0 is no bound
	Latency time.Duration // p99 of the tenants' requests that one move never reacts to, and several up to a quarter of it; default 20 ms
}

const (
	paceTick   = 250 * time.Millisecond
	paceTicks  = 4            // in which so many requests are waited for as make a p99:
	paceWell   = 100          // of fewer it is that of the second slowest for one move, of the slowest for several
	paceEnough = 20           // requests in paceTicks that are worth looking at
	paceRise   = 2.           // times the p99 without moves that make one move give way,
	paceCrowd  = 1.5          // and several
	paceLeast  = 256 << 10    // bytes per second that a move always gets, so that it ends
	paceMore   = 64 << 10     // bytes per second that a calm tick gives back at least:
	paceCreep  = 1.1          // times what several moves may take,
	paceLeap   = 1.5          // and one
	paceMost   = float64(2e9) // bytes per second beyond which a bound means nothing
	paceBurst  = 4 * chunk
	paceLump   = 4 << 10 // bytes of a stream that wait together

	paceSettle = time.Second      // after what moved last, before the p99 is what it is without
	paceForget = 10 * time.Second // after what moved last, before what is known of the crowd is old
)

// A Pace makes moves give way to the tenants of the cell (AIMD, as in Chiu and Jain
// 1989). While the p99 of the tenants' requests is high, it halves how many copies the
// cell takes side by side, since one alone is nearly as quick as several; then what they
// may take. When it is not, it gives back a little at a time. Several moves are a drain
// or the like, which lasts: they give way sooner than one, whose operator waits for it, and
// get less back at a time. The rounds inside a pause are not slowed: there a tenant waits. A nil Pace bounds nothing.
type Pace struct {
	latency    time.Duration
	bound      float64 // bytes per second, at most; +Inf is no bound
	bytes      *rate.Limiter
	rows       *rate.Limiter // nil is no bound
	turns      turns
	copies     *semaphore.Weighted
	moved      atomic.Int64               // bytes since the p99 was known last
	streams    atomic.Int32               // under way
	most       atomic.Int32               // of them at once, since then
	took       [paceBuckets]atomic.Uint32 // requests since then, by duration
	gauge      prometheus.Gauge
	sideBySide prometheus.GaugeFunc

	mu     sync.Mutex
	ticks  int           // since then
	calm   time.Duration // since something moved
	alone  time.Duration // since several moved
	low    time.Duration // for how long moves have had the least, and the p99 was high
	limit  float64       // bytes per second now
	normal time.Duration // p99 while nothing moves, smoothed; 0 is unknown
}

// NewPace makes a Pace; Run adjusts it.
func NewPace(o PaceOptions) *Pace {
	p := &Pace{latency: o.Latency, bound: math.Inf(1), turns: turns{limit: turnsFirst}, copies: semaphore.NewWeighted(turnsMost), alone: paceForget}
	if p.latency == 0 {
		p.latency = 20 * time.Millisecond
	}
	if o.Bytes > 0 {
		p.bound = float64(o.Bytes)
	}
	if o.Rows > 0 {
		p.rows = rate.NewLimiter(rate.Limit(o.Rows), max(1, int(o.Rows/10)))
	}
	p.limit = p.bound
	p.bytes = rate.NewLimiter(rate.Limit(p.limit), paceBurst)
	p.gauge = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "move_pace_bytes_per_second", Help: "What moves may take of this cell now; +Inf is no bound.",
	})
	p.gauge.Set(p.limit)
	p.sideBySide = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "move_pace_copies", Help: "How many copies into this cell may work side by side now.",
	}, p.turns.now)
	return p
}

// Register adds the pace's metrics to reg.
func (p *Pace) Register(reg *prometheus.Registry) { reg.MustRegister(p.gauge, p.sideBySide) }

// The buckets of durations: each half as long again as the one before, from 1 ms.
const paceBuckets = 24

// bucketEnds is the longest duration of each bucket.
var bucketEnds = func() (ends [paceBuckets]time.Duration) {
	d := time.Millisecond
	for i := range ends {
		ends[i] = d
		d += d / 2
	}
	return ends
}()

// Observe tells how long a tenant's request took.
func (p *Pace) Observe(took time.Duration) {
	b, _ := slices.BinarySearch(bucketEnds[:paceBuckets-1], took)
	p.took[b].Add(1)
}

// Run adjusts the pace until ctx ends.
func (p *Pace) Run(ctx context.Context) error {
	t := time.NewTicker(paceTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			p.tick()
		}
	}
}

// p99 is that of the requests since it was known last, rounded up to its bucket's
// end; known is false where they are too few yet.
func (p *Pace) p99() (d time.Duration, known bool) {
	var counts [paceBuckets]uint32
	var total uint32
	for i := range p.took {
		counts[i] = p.took[i].Load()
		total += counts[i]
	}
	if p.ticks++; total < paceWell && p.ticks < paceTicks {
		return 0, false
	}
	p.ticks = 0
	for i := range p.took {
		p.took[i].Add(-counts[i])
	}
	if total < paceEnough {
		return 0, false
	}
	left := total / 100 // requests that may be slower
	if !p.several() {
		left = max(1, left) // one alone says nothing, and an operator waits; several give way at once
	}
	for i := paceBuckets - 1; i >= 0; i-- {
		if counts[i] > left {
			return bucketEnds[i], true
		}
		left -= counts[i]
	}
	return 0, false
}

// tick adjusts the bounds by what the last requests took.
func (p *Pace) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.ticks + 1
	p99, known := p.p99()
	if p.ticks > 0 {
		return // too few yet
	}
	took, moved := time.Duration(was)*paceTick, p.moved.Swap(0)
	if p.calm += took; moved > 0 || p.turns.busy() {
		p.calm = 0
	}
	if p.alone += took; p.most.Swap(p.streams.Load()) > 1 {
		p.alone = 0
	}
	switch {
	case known && p.calm == 0 && p99 > p.bearable():
		if !p.turns.fewer() {
			p.limit = max(paceLeast, min(p.limit, float64(moved)/took.Seconds())/2)
		}
		if p.low += took; p.limit > paceLeast {
			p.low = 0
		}
		if p.low > paceForget { // it is not the moves then
			p.low, p.normal = 0, p.normal+(p99-p.normal)/4
		}
	case p.limit < p.bound:
		for range was {
			p.limit = max(p.limit+paceMore, p.limit*p.more())
		}
		if p.limit > paceMost {
			p.limit = p.bound
		}
	case p.calm == 0:
		p.turns.more(was)
	case p.calm > paceForget:
		p.turns.afresh()
	}
	if known && p99 <= p.bearable() {
		p.low = 0
	}
	if known && p.calm > paceSettle {
		p.normal += (p99 - p.normal) / 4
	}
	p.limit = min(p.limit, p.bound)
	p.bytes.SetLimit(rate.Limit(p.limit))
	p.gauge.Set(p.limit)
}

// bearable is the p99, a bucket's end, up to which what moves does not give way.
func (p *Pace) bearable() time.Duration {
	if p.several() && p.normal > 0 {
		return max(p.latency/4, time.Duration(paceCrowd*float64(p.normal)))
	}
	return max(p.latency, time.Duration(paceRise*float64(p.normal)))
}

// more is by what a calm tick multiplies what moves may take.
func (p *Pace) more() float64 {
	if p.several() {
		return paceCreep
	}
	return paceLeap
}

// several reports whether more than one move was under way lately.
func (p *Pace) several() bool { return p.alone < paceForget }

// begin counts a stream until it ends.
func (p *Pace) begin() (end func()) {
	n := p.streams.Add(1)
	for was := p.most.Load(); was < n && !p.most.CompareAndSwap(was, n); was = p.most.Load() {
	}
	return func() { p.streams.Add(-1) }
}
