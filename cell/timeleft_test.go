package cell

import (
	"net/http"
	"testing"
	"time"

	"github.com/cellway/cellway/directory/token"
)

// TestTheRoutersTimeBoundsARequest: a cell works no longer than somebody waits,
// and never longer than its own bound.
func TestTheRoutersTimeBoundsARequest(t *testing.T) {
	t.Parallel()
	s := &Server{timeout: 10 * time.Second}
	for text, want := range map[string]time.Duration{
		"": s.timeout, "250": 250 * time.Millisecond, "60000": s.timeout, "0": 0, "-5": s.timeout, "soon": s.timeout, "99999999999999999999": s.timeout,
	} {
		r := &http.Request{Header: http.Header{token.TimeLeftHeader: {text}}}
		if got := s.allowed(r); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0", 1500 * time.Microsecond: "1", 1999 * time.Millisecond: "1900", time.Minute: "60000", 90 * time.Second: "90000"} {
		if got := token.TimeLeft(d); got != want {
			t.Errorf("%v is sent as %q, want %q", d, got, want)
		}
	}
}
