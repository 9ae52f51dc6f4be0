package peers

import "time"

// A loadSpec is what a generator does.
type loadSpec struct {
	Addr    string        `json:"addr"`
	Conns   int           `json:"conns"`
	Rate    int           `json:"rate"` // requests a second; 0 sends the next when the last is answered
	For     time.Duration `json:"for"`
	Method  string        `json:"method"`
	Path    string        `json:"path"`
	Body    int           `json:"body"`
	Tenants int           `json:"tenants"` // in turn; 0 is all
	Close   bool          `json:"close"`   // each request has a connection of its own
	Resumed bool          `json:"resumed"` // of handshakes: by the ticket of the first
}

// A loadResult is what it saw.
type loadResult struct {
	Done   int           `json:"done"` // answered with 200
	Failed int           `json:"failed"`
	Took   time.Duration `json:"took"`
	P50    time.Duration `json:"p50"`
	P99    time.Duration `json:"p99"`
	P999   time.Duration `json:"p999"`
}

// perSecond is the rate of answers.
func (r loadResult) perSecond() float64 { return float64(r.Done) / r.Took.Seconds() }

// A fifo is a ring that grows and never shrinks.
type fifo[T any] struct {
	ring []T
	from int
	n    int
}

func (f *fifo[T]) len() int { return f.n }

func (f *fifo[T]) push(v T) {
	if f.n == len(f.ring) {
		grown := make([]T, max(64, 2*len(f.ring)))
		for i := range f.n {
			grown[i] = f.ring[(f.from+i)%len(f.ring)]
		}
		f.ring, f.from = grown, 0
	}
	f.ring[(f.from+f.n)%len(f.ring)] = v
	f.n++
}

func (f *fifo[T]) pop() T {
	v := f.ring[f.from]
	f.from, f.n = (f.from+1)%len(f.ring), f.n-1
	return v
}

// baseDomain is under which the tenants are.
const baseDomain = "cellway.localhost"

// appendHost appends the name of tenant n: t000042.cellway.localhost.
func appendHost(b []byte, n int) []byte {
	b = append(b, 't')
	for div := 100_000; div > 0; div /= 10 {
		b = append(b, byte('0'+n/div%10)) //nolint:gosec // a digit
	}
	return append(b, "."+baseDomain...)
}

func host(n int) string { return string(appendHost(nil, n)) }
