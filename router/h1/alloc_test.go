package h1

import (
	"math"
	"net"
	"testing"
	"time"
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

// A stillConn reads and writes at once, for ever.
type stillConn struct{ net.Conn }

func (stillConn) Read(p []byte) (int, error)       { return copy(p, "\x81\x03one"), nil }
func (stillConn) Write(p []byte) (int, error)      { return len(p), nil }
func (stillConn) SetReadDeadline(time.Time) error  { return nil }
func (stillConn) SetWriteDeadline(time.Time) error { return nil }

// TestATunnelAllocatesNothing for a piece that it moves.
func TestATunnelAllocatesNothing(t *testing.T) {
	x := newTunnel(stillConn{}, stillConn{}, time.Minute)
	buf := make([]byte, 100)
	if got := testing.AllocsPerRun(1000, func() {
		n, err := x.read(&x.down, buf)
		x.down.Follow(buf[:n])
		if err != nil || x.write(&x.down, buf[:n]) != nil || x.told() != nil || !x.down.Between() {
			t.Error("it ended")
		}
	}); got != 0 {
		t.Errorf("got %v allocations a piece", got)
	}
}
