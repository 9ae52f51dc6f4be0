package front

import "sync"

// answered knows the streams of a connection that had their whole answer last: more
// than can be open, and be answered before the client hears of the first. To take such
// a stream back costs nobody anything.
type answered struct {
	mu     sync.Mutex
	recent [2 * maxStreams]uint32 // a ring; with takenBack where the client has taken it back
	next   int
}

const takenBack = 1 << 31 // no stream's number has it

func (a *answered) add(stream uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recent[a.next] = stream
	a.next = (a.next + 1) % len(a.recent)
}

// has reports whether stream is one of them.
func (a *answered) has(stream uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.find(stream) >= 0
}

// leave reports whether the client takes stream back for the first time.
func (a *answered) leave(stream uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.find(stream)
	if i < 0 || a.recent[i]&takenBack != 0 {
		return false
	}
	a.recent[i] |= takenBack
	return true
}

func (a *answered) find(stream uint32) int {
	for i, s := range a.recent {
		if s&^takenBack == stream {
			return i
		}
	}
	return -1
}
