package guard

import "sync"

// counts say how much of something each owner has now; who has none takes no
// memory.
type counts struct {
	shards [64]struct {
		mu  sync.Mutex
		now map[bucket]int32
		_   [40]byte // a cache line of its own
	}
}

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
	if s.now[k] <= 1 {
		delete(s.now, k)
		return
	}
	s.now[k]--
}

// owners is how many have something now.
func (c *counts) owners() int {
	n := 0
	for i := range c.shards {
		c.shards[i].mu.Lock()
		n += len(c.shards[i].now)
		c.shards[i].mu.Unlock()
	}
	return n
}
