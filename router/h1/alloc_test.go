package h1

import (
	"math"
	"testing"
)

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
	const exchanges = 200
	many := func() { // testing.AllocsPerRun rounds down: so one run is many exchanges
		for range exchanges {
			exchangeOnce(t, c.Conn, buf)
		}
	}
	least := math.Inf(1) // the runtime itself may allocate meanwhile
	for range 10 {
		least = min(least, testing.AllocsPerRun(1, many))
	}
	if least > exchanges {
		t.Errorf("got %v allocations for %d exchanges, want one each", least, exchanges)
	}
}
