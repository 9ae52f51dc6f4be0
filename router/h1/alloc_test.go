package h1

import "testing"

// TestRelayingAllocatesOnce: an exchange through a handler that forwards costs
// one allocation, the copy of the request's head. Handlers put parts of it into
// spans and logs that outlive the exchange.
func TestRelayingAllocatesOnce(t *testing.T) {
	if raced {
		t.Skip("with the race detector, pools allocate")
	}
	addr := fronts(t, tiny(t))["h1"]
	c := dial(t, addr)
	buf := make([]byte, 8<<10)
	exchangeOnce(t, c.Conn, buf)
	if got := testing.AllocsPerRun(500, func() { exchangeOnce(t, c.Conn, buf) }); got > 1 {
		t.Errorf("got %v allocations for an exchange, want 1", got)
	}
}
