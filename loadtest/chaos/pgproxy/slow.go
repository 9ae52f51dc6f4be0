package pgproxy

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Pace is how slow a network is. The zero Pace is not.
type Pace struct {
	Latency time.Duration `json:"latency_ns"`       // of each statement, and of each answer
	Jitter  time.Duration `json:"jitter_ns"`        // up to so much longer, each time anew
	Rate    int           `json:"bytes_per_second"` // of each connection, each way; 0 is no bound
	Seed    uint64        `json:"seed"`             // what the jitter follows from
}

// A line is the network of a Proxy, which is slow for a while.
type line struct {
	mu    sync.Mutex
	pace  Pace
	rng   *rand.Rand
	until time.Time
}

// slow makes the line slow until then.
func (l *line) slow(p Pace, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace, l.rng, l.until = p, rand.New(rand.NewPCG(p.Seed, 0)), until
}

// takes is how long n bytes are under way that are sent at now. last says that nothing follows them at
// once: what is sent together pays the latency together. What is still under way when the line
// is quick again arrives then.
func (l *line) takes(n int, last bool, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.until.Sub(now)
	if left <= 0 {
		return 0
	}
	var d time.Duration
	if l.pace.Rate > 0 {
		d = time.Duration(float64(n) / float64(l.pace.Rate) * float64(time.Second))
	}
	if last {
		d += l.pace.Latency
		if l.pace.Jitter > 0 {
			d += time.Duration(l.rng.Int64N(int64(l.pace.Jitter)))
		}
	}
	return min(d, left)
}

// A way is one direction of a connection.
type way struct {
	proxy *Proxy
	owed  time.Duration // too short to wait for by itself
}

// pass waits for as long as n bytes take; false where the proxy is closed meanwhile.
func (w *way) pass(n int, last bool) bool {
	w.owed += w.proxy.line.takes(n, last, time.Now())
	if w.owed == 0 || w.owed < time.Millisecond && !last {
		return true
	}
	d := w.owed
	w.owed = 0
	return w.proxy.stall(d)
}

// window is how many bytes are under way at most in one direction of a connection whose
// protocol is not known.
const window = 64 << 10

// relay forwards bytes one way, as they come.
func (p *Proxy) relay(to, from net.Conn, asks bool) {
	w, buf := way{proxy: p}, make([]byte, window)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if asks {
				p.strikes(p.take(true)) // there are no commits to tell from others
			}
			if !w.pass(n, true) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// strikes makes the line slow where that is what a fault wants.
func (p *Proxy) strikes(f *Fault) {
	if f != nil && f.Kind == Slow {
		p.line.slow(f.Pace, time.Now().Add(f.Stall))
	}
}
