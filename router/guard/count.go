package guard

import "sync"

// counts say how much of something each owner has now. Of those who have none a few are
// kept, as most come again.
type counts struct {
	shards [64]struct {
		mu  sync.Mutex
		now map[bucket]int32
		_   [40]byte // a cache line of its own
	}
}

// keptCounts is how many owners a shard has before those who leave it are forgotten.
const keptCounts = 256

func newCounts() *counts {
	c := &counts{}
	for i := range c.shards {
		c.shards[i].now = map[bucket]int32{}
	}
	return c
}

// enter takes one place of most; false where all are taken.
func (c *counts) enter(k bucket, most int) bool {
	s := &c.shards[k.hash()&63]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.now[k]
	if int(n) >= most {
		return false
	}
	s.now[k] = n + 1
	return true
}

// leave gives the place back.
func (c *counts) leave(k bucket) {
	s := &c.shards[k.hash()&63]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.now[k] - 1
	if n <= 0 && len(s.now) > keptCounts {
		delete(s.now, k)
		return
	}
	s.now[k] = max(0, n)
}

// owners is how many have something now.
func (c *counts) owners() int {
	n := 0
	for i := range c.shards {
		c.shards[i].mu.Lock()
		for _, has := range c.shards[i].now {
			n += int(min(has, 1))
		}
		c.shards[i].mu.Unlock()
	}
	return n
}
