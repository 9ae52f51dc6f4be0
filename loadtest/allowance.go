package loadtest

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// A GivenBack is an allowance that came back sooner than time gives it back: who
// keeps the state of the tenant's limit has forgotten some of it.
type GivenBack struct {
	Since    time.Time // when the request was sent whose answer knew better
	At       time.Time // when the answer came that had forgotten
	Requests int       // how many it had forgotten, at least
}

// An allowance is what a tenant's limit on requests still lets it do, as each answer
// tells. It comes back as time goes by, and by nothing else.
type allowance struct {
	perMinute int

	mu   sync.Mutex
	full mark
	back []GivenBack
}

// A mark is when, at the earliest, the whole allowance will have come back.
type mark struct {
	at   time.Time
	sent time.Time // the request whose answer says so
}

// mark is what the answers so far say; of a request that is sent now the answer must not
// say less.
func (a *allowance) mark() mark {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.full
}

// answered takes what an answer tells: to a request that was sent when known was, and
// answered by got. Where within that time it was counted nobody knows.
func (a *allowance) answered(known mark, sent, got time.Time, h http.Header) {
	var left, reset int
	if n, _ := fmt.Sscanf(h.Get("RateLimit"), `"default";r=%d;t=%d`, &left, &reset); n != 2 {
		return // no cell has counted it, or one without its Redis
	}
	each := time.Minute / time.Duration(a.perMinute)
	used := time.Duration(a.perMinute-left) * each
	earliest, latest := sent.Add(used-2*each), got.Add(used) // left is rounded down, and Redis' clock stands still while it works
	a.mu.Lock()
	defer a.mu.Unlock()
	if forgot := known.at.Sub(latest); forgot > 0 {
		a.back = append(a.back, GivenBack{Since: known.sent, At: got, Requests: int(forgot/each) + 1})
		a.full = mark{}
	}
	if earliest.After(a.full.at) {
		a.full = mark{earliest, sent}
	}
}

// GivenBack is what has come back too soon since it was asked last.
func (t *Tenant) GivenBack() []GivenBack {
	t.left.mu.Lock()
	defer t.left.mu.Unlock()
	back := t.left.back
	t.left.back = nil
	return back
}
