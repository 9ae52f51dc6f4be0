package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A stuck is a connection whose client takes nothing more, once it is full.
type stuck struct {
	net.Conn
	full   atomic.Bool
	closed chan struct{}
	once   sync.Once
}

// Write implements io.Writer.
func (s *stuck) Write(p []byte) (int, error) {
	if s.full.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.Conn.Write(p)
}

// Close implements io.Closer.
func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// A listening makes TLS over stuck connections, which it says.
type listening struct {
	net.Listener
	config *tls.Config
	all    chan *stuck
}

// Accept implements net.Listener.
func (l *listening) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &stuck{Conn: nc, closed: make(chan struct{})}
	l.all <- s
	tc := tls.Server(s, l.config)
	_ = tc.Handshake() //nolint:noctx // the client is this test
	return tc, nil
}

// TestShutdownWaitsForNoGoodbye: clients that take nothing more, of which TLS would say
// goodbye to each, hold neither Shutdown nor Close up.
func TestShutdownWaitsForNoGoodbye(t *testing.T) {
	t.Parallel()
	cell := httptest.NewTLSServer(nil)
	cell.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &listening{tcp, &tls.Config{Certificates: cell.TLS.Certificates, MinVersion: tls.VersionTLS12}, make(chan *stuck, 8)}
	s := &Server{Handler: http.HandlerFunc(ok)}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	var all []*stuck
	for range 8 {
		w := dial(t, tcp.Addr().String())
		w.Conn = tls.Client(w.Conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // this test's certificate
		w.from.Reset(w.Conn)
		w.send("GET /" + host1 + "\r\n")
		if status, _, _, err := w.answer("GET"); status != 200 || err != nil {
			t.Fatal(status, err)
		}
		all = append(all, <-ln.all)
	}
	eventually(t, "all are idle", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if c.state.Load() != idle {
				return false
			}
		}
		return true
	})
	for _, nc := range all {
		nc.full.Store(true)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- errors.Join(s.Shutdown(ctx), s.Close()) }()
	select {
	case err := <-stopped:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Error("it waits for a client")
		for _, nc := range all {
			_ = nc.Close()
		}
		<-stopped
	}
	for _, nc := range all {
		<-nc.closed
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
