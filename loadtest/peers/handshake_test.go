package peers

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestHandshakesAreWholeOrResumed(t *testing.T) {
	t.Parallel()
	var whole, resumed atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, VerifyConnection: func(s tls.ConnectionState) error {
		if s.DidResume {
			resumed.Add(1)
		} else {
			whole.Add(1)
		}
		return nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	spec := loadSpec{Addr: server.Listener.Addr().String(), Rate: 1000, Conns: 4, For: 40 * time.Millisecond}
	for _, tt := range []struct {
		resumed        bool
		whole, another int64
	}{{false, 40, 0}, {true, 1, 40}} { // the ticket is of a whole one
		whole.Store(0)
		resumed.Store(0)
		spec.Resumed = tt.resumed
		got, err := shakeHands(t.Context(), spec)
		if err != nil || got.Done != 40 || got.Failed != 0 || got.Took <= 0 {
			t.Errorf("resumed %v: got %+v, %v", tt.resumed, got, err)
		}
		if whole.Load() != tt.whole || resumed.Load() != tt.another {
			t.Errorf("resumed %v: the server saw %d whole and %d resumed", tt.resumed, whole.Load(), resumed.Load())
		}
	}
}

func TestHandshakesThatFailAreAnError(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{SessionTicketsDisabled: true} //nolint:gosec // of a test
	server.StartTLS()
	t.Cleanup(server.Close)
	spec := loadSpec{Addr: server.Listener.Addr().String(), Rate: 1000, Conns: 1, For: 2 * time.Millisecond, Resumed: true}
	if got, err := shakeHands(t.Context(), spec); err == nil {
		t.Errorf("without tickets: got %+v", got)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec.Addr, spec.Resumed = ln.Addr().String(), false
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := shakeHands(t.Context(), spec); err == nil {
		t.Errorf("nobody listens: got %+v", got)
	}
}
