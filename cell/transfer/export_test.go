package transfer

// Touched is the first statement of a round that reads the noted keys.
const Touched = touched

// Noted is the first statement of a round of few keys.
const Noted = noted

// StreamEverything makes the source's rounds stream, however few their keys.
func (s *Source) StreamEverything() { s.few = -1 }
