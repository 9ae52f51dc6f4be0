package guard

import (
	"sync/atomic"
	"time"
)

// A sampler lets through so many a second, and as many at once as come in one
// second at most.
type sampler struct {
	full   atomic.Int64 // when it would be so again, by the guard's clock (GCRA)
	passed atomic.Int64 // since the last one that was let through
}

// due reports whether one would be let through now.
func (s *sampler) due(now int64, interval time.Duration) bool {
	return max(s.full.Load(), now-int64(time.Second))+int64(interval) <= now
}

// take asks for one; passed is how many were not let through before it.
func (s *sampler) take(now int64, interval time.Duration) (passed int64, ok bool) {
	for {
		at := s.full.Load()
		next := max(at, now-int64(time.Second)) + int64(interval)
		if next > now {
			s.passed.Add(1)
			return 0, false
		}
		if s.full.CompareAndSwap(at, next) {
			return s.passed.Swap(0), true
		}
	}
}
