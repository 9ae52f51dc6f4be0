package transfer

import "github.com/cellway/cellway/directory"

// Touched is the first statement of a round that reads the noted keys.
const Touched = touched

// Noted is the first statement of a round of few keys.
const Noted = noted

// StreamEverything makes the source's rounds stream, however few their keys.
func (s *Source) StreamEverything() { s.few = -1 }

// AwaitAhead waits until the round that is made ahead is there; false: none is made.
func (s *Source) AwaitAhead(move directory.MoveID) bool {
	s.ahead.mu.Lock()
	e := s.ahead.ready[move]
	s.ahead.mu.Unlock()
	if e == nil {
		return false
	}
	<-e.done
	return e.err == nil
}
