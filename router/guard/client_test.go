package guard

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestClient: what a client writes into X-Forwarded-For is believed from a
// trusted hop alone, and there only what trusted hops have added.
func TestClient(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "trusted: [10.0.0.0/8, 2001:db8::/32, 127.0.0.1]")
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"a stranger's own word", "192.0.2.1", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a trusted hop's", "10.1.2.3", []string{"198.51.100.7"}, "198.51.100.7"},
		{"spoofed before a trusted hop", "10.1.2.3", []string{"1.1.1.1, 198.51.100.7"}, "198.51.100.7"},
		{"spoofed in a line of its own", "10.1.2.3", []string{"1.1.1.1", "198.51.100.7"}, "198.51.100.7"},
		{"two trusted hops", "10.1.2.3", []string{"1.1.1.1, 198.51.100.7 ,10.9.9.9"}, "198.51.100.7"},
		{"trusted hops only", "10.1.2.3", []string{"10.9.9.9"}, "10.9.9.9"},
		{"nothing said", "10.1.2.3", nil, "10.1.2.3"},
		{"nonsense", "10.1.2.3", []string{"198.51.100.7, unknown"}, "10.1.2.3"},
		{"nonsense behind an address", "10.1.2.3", []string{"nonsense, 198.51.100.7"}, "198.51.100.7"},
		{"an empty list", "10.1.2.3", []string{""}, "10.1.2.3"},
		{"a zone", "10.1.2.3", []string{"fe80::1%eth0"}, "10.1.2.3"},
		{"IPv6", "2001:db8::1", []string{"2001:db9::7"}, "2001:db9::7"},
		{"with a port", "10.1.2.3", []string{"1.1.1.1, 198.51.100.7:4711, 10.9.9.9:80"}, "198.51.100.7"},
		{"IPv6 with a port", "10.1.2.3", []string{"[2001:db9::7]:4711"}, "2001:db9::7"},
		{"IPv6 in brackets", "10.1.2.3", []string{"[2001:db9::7]"}, "2001:db9::7"},
		{"a port that is none", "10.1.2.3", []string{"198.51.100.7:http"}, "10.1.2.3"},
		{"a zone with a port", "10.1.2.3", []string{"[fe80::1%eth0]:80"}, "10.1.2.3"},
		{"IPv4 in IPv6", "::ffff:10.1.2.3", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
	} {
		if got := g.Client(netip.MustParseAddr(tt.peer), tt.forwarded); got != netip.MustParseAddr(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := newGuard(t, "").Client(netip.MustParseAddr("10.1.2.3"), []string{"198.51.100.7"}); got != netip.MustParseAddr("10.1.2.3") {
		t.Errorf("without trusted hops: got %v", got)
	}
}

func TestClientBucket(t *testing.T) {
	t.Parallel()
	of := func(s string) bucket { return clientBucket(netip.MustParseAddr(s)) }
	if of("2001:db8:1:2::1") != of("2001:db8:1:2:ffff::9") || of("2001:db8:1:2::1") == of("2001:db8:1:3::1") {
		t.Error("IPv6 clients are not their /64")
	}
	if of("192.0.2.1") == of("192.0.2.2") || of("192.0.2.1") != of("::ffff:192.0.2.1") {
		t.Error("IPv4 clients are not their address")
	}
}

// TestConnections: an address has so many connections and no more; those one too
// many are closed, and a place is free again when one ends.
func TestConnections(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "clients: {connections: 2}")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := g.Listener(inner)
	defer func() { _ = ln.Close() }()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	first := <-accepted
	if _, err := first.(syscall.Conn).SyscallConn(); err != nil {
		t.Errorf("the socket cannot be reached: %v", err)
	}
	if err := first.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Errorf("the connection cannot be reset: %v", err)
	}
	dial()
	second := <-accepted
	third := dial()
	_ = third.SetReadDeadline(time.Now().Add(20 * time.Second)) // the read will report it
	if _, err := third.Read(make([]byte, 1)); err == nil || err != io.EOF && !isReset(err) {
		t.Errorf("one too many: got %v, want it closed", err)
	}
	if got := testutil.ToFloat64(g.metrics.refused.WithLabelValues("client_connections")); got != 1 {
		t.Errorf("refused: got %v, want 1", got)
	}
	_ = first.Close()
	_ = first.Close() // counts once
	dial()
	_ = (<-accepted).Close()
	_ = second.Close()
	if n := g.conns.owners(); n != 0 {
		t.Errorf("%d addresses have connections, want 0", n)
	}
}

func isReset(err error) bool {
	_, ok := err.(*net.OpError) //nolint:errorlint // as the socket gives it
	return ok
}

// TestAMappedHopIsTrusted: an address of IPv4 may be written as some logs have it.
func TestAMappedHopIsTrusted(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "trusted: ['::ffff:10.0.0.0/104', '::ffff:192.0.2.1']")
	for peer, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "192.0.2.1": true, "11.0.0.1": false, "192.0.2.2": false, "::1": false} {
		if got := g.Trusts(netip.MustParseAddr(peer)); got != want {
			t.Errorf("%s: got %v, want %v", peer, got, want)
		}
	}
	if _, err := Parse([]byte("trusted: ['::ffff:0.0.0.0/90']")); err == nil {
		t.Error("a prefix of more than IPv4 was taken")
	}
}

// TestALinkLocalHopIsTrusted, whether its address comes with the zone, as flights have it,
// or without, as requests do.
func TestALinkLocalHopIsTrusted(t *testing.T) {
	t.Parallel()
	g := New(prometheus.NewRegistry())
	p, err := Parse([]byte("trusted: ['fe80::/10']\nclients: {requests: 1, window: 1m}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Use(p); err != nil {
		t.Fatal(err)
	}
	for _, peer := range []netip.Addr{PeerOf("[fe80::1%eth0]:1234"), netip.MustParseAddr("fe80::1%eth0")} {
		if !g.Trusts(peer) {
			t.Errorf("%s is not trusted", peer)
		}
		for range 2 {
			if v := g.CheckClient(peer); v.Err != nil {
				t.Errorf("%s: %v", peer, v.Err)
			}
		}
	}
}
