package guard

import (
	"math"
	"sync"
	"time"
)

// A bucket names one allowance: whose it is (a tenant, or a client's address) and
// which limit it is of. It has no gaps, so that maps take it for so many bytes.
type bucket struct {
	of    uint64
	kind  uint32 // of owner
	limit uint32
}

const (
	aTenant uint32 = iota
	anIPv4
	anIPv6
)

func (b bucket) hash() uint64 {
	h := b.of*0x9e3779b97f4a7c15 ^ uint64(b.kind)*0xbf58476d1ce4e5b9 ^ uint64(b.limit)*0x94d049bb133111eb
	return h ^ h>>29
}

// A limit allows burst requests at once and one more every interval.
type limit struct {
	id       uint32
	name     string // as the RateLimit headers say it
	policy   string // the RateLimit-Policy header
	interval time.Duration
	burst    int
}

// buckets keep, of each allowance that is in use, the time at which it is full
// again (GCRA): eight bytes of state. They are sharded so that cores do not meet,
// and bounded: over the bound those that are full again are forgotten, which
// changes nothing, and where none is, any other, which lets its owner start anew.
type buckets struct {
	shards [64]bucketShard
	most   int // in one shard
}

type bucketShard struct {
	mu   sync.Mutex
	full map[bucket]int64 // nanoseconds of the clock that take is given
	_    [40]byte         // a cache line of its own
}

// newBuckets keeps about most allowances.
func newBuckets(most int) *buckets {
	b := &buckets{most: max(1, most/64)}
	for i := range b.shards {
		b.shards[i].full = map[bucket]int64{}
	}
	return b
}

// An allowance is what is left of one after a request.
type allowance struct {
	ok        bool
	remaining int           // requests that may come at once
	reset     time.Duration // until it is full again
	retry     time.Duration // until the next may come, where !ok
}

// take asks for one request at now. It allocates nothing for a bucket that is
// known. What a longer limit has left of one is as much as this limit knows of.
func (b *buckets) take(k bucket, l *limit, now int64) allowance {
	s := &b.shards[k.hash()&63]
	whole := int64(l.interval) * int64(l.burst)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, known := s.full[k]
	if !known && len(s.full) >= b.most {
		s.forget(now)
	}
	if at > now+whole {
		at = now + whole
		s.full[k] = at
	}
	at = max(at, now)
	next := at + int64(l.interval)
	if next-now > whole {
		return allowance{reset: time.Duration(at - now), retry: time.Duration(next - now - whole)}
	}
	s.full[k] = next
	left := whole - (next - now)
	return allowance{ok: true, remaining: int(left / int64(l.interval)), reset: time.Duration(next - now)}
}

// back gives one back that take gave, of a request that does not go on.
func (b *buckets) back(k bucket, l *limit) {
	s := &b.shards[k.hash()&63]
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, known := s.full[k]; known {
		s.full[k] = at - int64(l.interval)
	}
}

// forget makes room for one: of a few buckets (a map's order is random) those
// that are full again, else the one that is so first.
func (s *bucketShard) forget(now int64) {
	const looked = 16
	var soonest bucket
	first, n, freed := int64(math.MaxInt64), 0, false
	for k, at := range s.full {
		switch {
		case at <= now:
			delete(s.full, k)
			freed = true
		case at < first:
			first, soonest = at, k
		}
		if n++; n == looked {
			break
		}
	}
	if !freed {
		delete(s.full, soonest)
	}
}

// len is how many allowances are kept.
func (b *buckets) len() int {
	n := 0
	for i := range b.shards {
		b.shards[i].mu.Lock()
		n += len(b.shards[i].full)
		b.shards[i].mu.Unlock()
	}
	return n
}
