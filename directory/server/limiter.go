package server

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// generation is how many addresses a limiter remembers at least, and half of how
// many at most.
const generation = 10_000

// A limiter bounds what each address does per minute. Its memory is bounded too:
// when young is full it becomes old and what was old is forgotten.
type limiter struct {
	perMinute int
	mu        sync.Mutex
	young     map[string]*rate.Limiter
	old       map[string]*rate.Limiter
}

func newLimiter(perMinute int) *limiter {
	return &limiter{perMinute: perMinute, young: map[string]*rate.Limiter{}}
}

// take counts one act of an address; above 0 it was one too many, and the result
// is when the next one may come.
func (l *limiter) take(address string) time.Duration {
	r := l.of(address).Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}

func (l *limiter) of(address string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.young[address]; ok {
		return one
	}
	one, ok := l.old[address]
	if !ok {
		one = rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
	}
	if len(l.young) >= generation {
		l.young, l.old = map[string]*rate.Limiter{}, l.young
	}
	l.young[address] = one
	return one
}
