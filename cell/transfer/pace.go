package transfer

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// PaceOptions bound what all moves of a cell, out of it and into it, take
// together. The zero value bounds nothing until the foreground slows down.
type PaceOptions struct {
	Bytes   int64         // per second, at most; 0 is no bound
	Rows    int64         // per second, at most; 0 is no bound
	Latency time.Duration // p99 of the tenants' requests that moves never react to; default 50 ms
}

const (
	paceTick   = 250 * time.Millisecond
	paceEnough = 20           // requests in a tick that make a p99 worth looking at
	paceRise   = 2            // times the p99 without moves that make moves give way
	paceLeast  = 256 << 10    // bytes per second that a move always gets, so that it ends
	paceMost   = float64(2e9) // bytes per second beyond which a bound means nothing
	paceBurst  = 4 * chunk
)

// A Pace makes moves give way to the tenants of the cell: it halves what moves
// may take while the p99 of the tenants' requests is high, and gives back a tenth
// at a time when it is not (AIMD, as in Chiu and Jain 1989). The rounds inside a
// pause are not slowed: there a tenant waits. A nil Pace bounds nothing.
type Pace struct {
	latency     time.Duration
	most        float64 // bytes per second; +Inf is no bound
	bytes, rows *rate.Limiter
	moved       atomic.Int64               // bytes since the last tick
	took        [paceBuckets]atomic.Uint32 // requests since the last tick, by duration
	gauge       prometheus.Gauge

	mu     sync.Mutex
	limit  float64       // bytes per second now
	normal time.Duration // p99 while nothing moves, smoothed; 0 is unknown
}

// NewPace makes a Pace; Run adjusts it.
func NewPace(o PaceOptions) *Pace {
	p := &Pace{latency: o.Latency, most: math.Inf(1), rows: rate.NewLimiter(rate.Inf, 0)}
	if p.latency == 0 {
		p.latency = 50 * time.Millisecond
	}
	if o.Bytes > 0 {
		p.most = float64(o.Bytes)
	}
	if o.Rows > 0 {
		p.rows = rate.NewLimiter(rate.Limit(o.Rows), max(1, int(o.Rows/10)))
	}
	p.limit = p.most
	p.bytes = rate.NewLimiter(rate.Limit(p.limit), paceBurst)
	p.gauge = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "move_pace_bytes_per_second", Help: "What moves may take of this cell now; +Inf is no bound.",
	})
	p.gauge.Set(p.limit)
	return p
}

// Register adds the pace's metric to reg.
func (p *Pace) Register(reg *prometheus.Registry) { reg.MustRegister(p.gauge) }

// The buckets of durations: each twice as long as the one before, from 1 ms.
const paceBuckets = 16

// Observe tells how long a tenant's request took.
func (p *Pace) Observe(took time.Duration) {
	b := 0
	for limit := time.Millisecond; b < paceBuckets-1 && took > limit; limit *= 2 {
		b++
	}
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
			p99, known := p.p99()
			p.adjust(p99, known, p.moved.Swap(0))
		}
	}
}

// p99 is that of the requests since the last call, rounded up to its bucket's
// end; known is false where they were too few.
func (p *Pace) p99() (d time.Duration, known bool) {
	var counts [paceBuckets]uint32
	var total uint32
	for i := range p.took {
		counts[i] = p.took[i].Swap(0)
		total += counts[i]
	}
	if total < paceEnough {
		return 0, false
	}
	left := total / 100 // requests that may be slower
	for i := paceBuckets - 1; i >= 0; i-- {
		if counts[i] > left {
			return time.Millisecond << i, true
		}
		left -= counts[i]
	}
	return 0, false
}

// adjust sets the limit after a tick in which moves took so many bytes.
func (p *Pace) adjust(p99 time.Duration, known bool, moved int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case known && moved > 0 && p99 > max(p.latency, paceRise*p.normal):
		p.limit = max(paceLeast, min(p.limit, float64(moved)/paceTick.Seconds())/2)
	case p.limit < p.most:
		p.limit = min(p.most, p.limit+max(paceLeast, p.limit/10))
		if p.limit > paceMost {
			p.limit = p.most
		}
	}
	if known && moved == 0 {
		p.normal += (p99 - p.normal) / 4
	}
	p.limit = min(p.limit, p.most)
	p.bytes.SetLimit(rate.Limit(p.limit))
	p.gauge.Set(p.limit)
}

// Take waits until one more row, or piece of one, of n bytes may go.
func (p *Pace) Take(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	p.moved.Add(int64(n))
	if err := p.rows.Wait(ctx); err != nil {
		return err
	}
	return p.bytes.WaitN(ctx, n)
}
