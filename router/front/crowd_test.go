package front

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestACrowdLeavesRoom: one address has its share of it, and who was there for long gives
// way where all is taken, or all of the share.
func TestACrowdLeavesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most, share, patience = 16, 2, 10 * time.Second
		c := newCrowd(most, time.Second, patience)
		var all []*guest
		gone := map[*guest]bool{}
		come := func(from netip.Prefix) (*guest, bool) {
			g := &guest{from: from}
			g.cut = func() { gone[g] = true } // which leave waits for
			return g, c.enter(g, true) == nil
		}
		for i := range most / share {
			from := addressOf(&net.TCPAddr{IP: net.IPv4(10, 0, 0, byte(i))})
			for n := range share + 1 {
				g, ok := come(from)
				if ok != (n < share) {
					t.Fatalf("number %d of an address: got %v", n, ok)
				}
				all = append(all, g)
			}
		}
		hop := netip.Prefix{}
		if _, ok := come(hop); ok {
			t.Error("one more than there may be came in, and nobody was there for long")
		}
		time.Sleep(time.Second) // of the bubble
		if c.enter(&guest{}, false) == nil || c.enter(&guest{from: all[0].from}, false) == nil {
			t.Error("who does not push came in")
		}
		if _, ok := come(all[0].from); ok {
			t.Error("who was there for a second gave way to its own address")
		}
		last, ok := come(hop)
		if !c.leave(all[0]) || !ok || !gone[all[0]] || len(gone) != 1 {
			t.Errorf("who was there longest does not give way: %v, %d gone", ok, len(gone))
		}
		time.Sleep(patience)   // of the bubble
		second := all[share+1] // the first of the second address
		next, ok := come(second.from)
		if !c.leave(second) || !ok || !gone[second] || len(gone) != 2 {
			t.Errorf("who was there longest of an address does not give way: %v, %d gone", ok, len(gone))
		}
		for _, g := range append(all, last, last, next) {
			if c.leave(g) != gone[g] {
				t.Error("it does not know whether it was cut")
			}
		}
		if c.inside.Len() != 0 || len(c.of) != 0 {
			t.Errorf("in the end %d are inside, of %d addresses", c.inside.Len(), len(c.of))
		}
	})
}

// TestF21ManyBehindOneAddress: clients that need three seconds for a body, somewhat more of
// them than one address has places. Who comes too many is refused; what was begun comes whole.
func TestF21ManyBehindOneAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const share, clients, takes, lasts = 128, 400, 3 * time.Second, time.Minute
		c := newCrowd(8*share, arriveTime, ownArriveTime)
		from := addressOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)})
		var done, cut atomic.Int32
		var all sync.WaitGroup
		end := time.Now().Add(lasts)
		for range clients {
			all.Go(func() {
				for time.Now().Before(end) {
					late := make(chan struct{})
					g := &guest{from: from, cut: func() { close(late) }}
					if c.enter(g, true) == nil {
						select {
						case <-late:
							cut.Add(1)
						case <-time.After(takes):
							done.Add(1)
						}
						c.leave(g)
					}
					time.Sleep(time.Second) // as it was told
				}
			})
		}
		all.Wait()
		if least := int32(share * (lasts / takes) / 2); done.Load() < least || cut.Load() > 0 {
			t.Errorf("%d bodies came whole, want %d at least; %d were cut", done.Load(), least, cut.Load())
		}
	})
}

func TestAddressOf(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1/32", "[::ffff:192.0.2.1]:80": "192.0.2.1/32",
		"[2001:db8::1]:80": "2001:db8::/64", "[fe80::1%eth0]:80": "fe80::/64", "pipe": "invalid Prefix",
	} {
		if got := addressOf(named(peer)).String(); got != want {
			t.Errorf("%s: got %s, want %s", peer, got, want)
		}
	}
}

type named string

func (n named) Network() string { return "tcp" }
func (n named) String() string  { return string(n) }

// narrow makes a crowd a small one. Nobody may be in it.
func narrow(c *crowd, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.share = most, most/8
}

// waits says how long one is inside before it may have to give way.
func (c *crowd) waits(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience, c.own = d, d
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inside.Len()
}

// until waits for cond.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// from dials from an address of this machine's own.
func (s *site) from(t *testing.T, ip string) net.Conn {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// client is one with connections of its own, from an address of this machine's.
func (s *site) client(t *testing.T, ip string) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func (s *site) get(c *http.Client) error { return s.ask(c, http.MethodGet, "") }

func (s *site) ask(c *http.Client, method, body string) error {
	r, err := http.NewRequest(method, "https://"+s.addr+"/well", strings.NewReader(body)) //nolint:noctx // the client has a deadline
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// TestSilentSocketsKeepNobodyOut: who connects and sends nothing has no place among those
// whose handshake is under way.
func TestSilentSocketsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	narrow(s.server.shaking, 8)
	for i := range 64 { // the listener has taken them when it takes who comes after
		s.from(t, fmt.Sprintf("127.0.0.%d", 1+i%32))
	}
	for range 4 {
		if err := s.get(s.client(t, "127.0.0.1")); err != nil {
			t.Errorf("beside silent ones: %v", err)
		}
	}
	if got := testutil.ToFloat64(s.server.o.Metrics.handshakes.WithLabelValues("crowded")); got != 0 {
		t.Errorf("%v were turned away", got)
	}
}

// TestF24AHerdOfHandshakes: one address can stall no more handshakes than its share. With
// as many under way as there may be, who comes then is closed at once and counted; who is
// connected is served on, and everybody again when the herd is through.
func TestF24AHerdOfHandshakes(t *testing.T) {
	t.Parallel()
	const most, share = 32, 4
	s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	connected := s.client(t, "127.0.0.1")
	if err := s.get(connected); err != nil {
		t.Fatal(err)
	}
	until(t, "nobody shakes hands", func() bool { return s.server.shaking.size() == 0 })
	narrow(s.server.shaking, most)
	var herd []net.Conn
	for i := range most / share {
		for range share {
			nc := s.from(t, fmt.Sprintf("127.0.0.%d", 10+i))
			if _, err := nc.Write([]byte{22}); err != nil { // how a handshake begins
				t.Fatal(err)
			}
			herd = append(herd, nc)
		}
		until(t, "the herd is in", func() bool { return s.server.shaking.size() == len(herd) })
		if err := s.get(s.client(t, fmt.Sprintf("127.0.0.%d", 10+i))); err == nil {
			t.Error("one more of an address that has its share was served")
		}
		if err := s.get(s.client(t, "127.0.0.2")); i < most/share-1 && err != nil {
			t.Errorf("another address, beside %d: %v", len(herd), err)
		} else if i == most/share-1 && err == nil {
			t.Error("one too many was served")
		}
	}
	if err := s.get(connected); err != nil {
		t.Errorf("who was connected: %v", err)
	}
	for _, nc := range herd {
		_ = nc.Close()
	}
	until(t, "the herd is through", func() bool { return s.server.shaking.size() == 0 })
	if err := s.get(s.client(t, "127.0.0.2")); err != nil {
		t.Errorf("after the herd: %v", err)
	}
	if got := testutil.ToFloat64(s.server.o.Metrics.handshakes.WithLabelValues("crowded")); got < most/share+1 {
		t.Errorf("%v were turned away", got)
	}
}
