package h1

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// atOnce makes each connection nap that waits at all.
const atOnce = time.Microsecond

// A shelter is a listener that makes TLS where it is asked to, and counts as a gate does.
type shelter struct {
	*gate
	tls  *tls.Config // nil: none
	read atomic.Int64
}

// Accept implements net.Listener.
func (l *shelter) Accept() (net.Conn, error) {
	for {
		nc, err := l.gate.Accept()
		if err != nil {
			return nil, err
		}
		nc = &seen{nc.(*gated), nc.(*gated).Conn.(*net.TCPConn), &l.read}
		if l.tls == nil {
			return nc, nil
		}
		tc := tls.Server(nc, l.tls)
		if tc.Handshake() == nil { //nolint:noctx // the client is this test
			return tc, nil
		}
		_ = tc.Close()
	}
}

// A seen counts what was read of a socket.
type seen struct {
	*gated
	*net.TCPConn
	read *atomic.Int64
}

// Read implements io.Reader.
func (s *seen) Read(p []byte) (int, error) {
	n, err := s.gated.Read(p)
	s.read.Add(int64(n))
	return n, err
}

func (s *seen) Close() error                       { return s.gated.Close() }
func (s *seen) LocalAddr() net.Addr                { return s.gated.LocalAddr() }
func (s *seen) RemoteAddr() net.Addr               { return s.gated.RemoteAddr() }
func (s *seen) SetDeadline(t time.Time) error      { return s.gated.SetDeadline(t) }
func (s *seen) SetReadDeadline(t time.Time) error  { return s.gated.SetReadDeadline(t) }
func (s *seen) SetWriteDeadline(t time.Time) error { return s.gated.SetWriteDeadline(t) }
func (s *seen) Write(p []byte) (int, error)        { return s.gated.Write(p) }

// A napper is a Server whose connections nap, each with its listener.
type napper struct {
	*Server
	*shelter
	served chan error
}

// eachShelter runs a test in the clear, on loops and goroutines, and over TLS.
func eachShelter(t *testing.T, test func(t *testing.T, start func(change func(*Server)) *napper)) {
	cell := httptest.NewTLSServer(nil)
	cell.Close()
	for name, loops := range map[string]int{"plain, loops": 2, "plain, goroutines": 0, "TLS": 0, "TLS beside loops": 2} {
		t.Run(name, func(t *testing.T) {
			test(t, func(change func(*Server)) *napper {
				n := &napper{Server: &Server{Loops: loops, Nap: atOnce, Direct: &directly{}, Handler: http.HandlerFunc(mirror)}, served: make(chan error, 1)}
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				n.shelter = &shelter{gate: &gate{Listener: ln}}
				if strings.HasPrefix(name, "TLS") {
					n.tls = &tls.Config{Certificates: cell.TLS.Certificates, MinVersion: tls.VersionTLS12}
				}
				if change != nil {
					change(n.Server)
				}
				go func() { n.served <- n.Serve(n.shelter) }()
				t.Cleanup(func() {
					_ = n.Server.Close()
					if err := <-n.served; !errors.Is(err, http.ErrServerClosed) {
						t.Errorf("serve: %v", err)
					}
					eventually(t, "the last connection ends", func() bool { return n.now.Load() == 0 })
				})
				return n
			})
		})
	}
}

// mirror says what it sees of a request. Its path starts with /handler, which grounds
// a connection of a loop's.
func mirror(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.Header().Set("X-"+r.Header.Get("Nonce"), "set")
	_, _ = fmt.Fprintf(w, "%s %v %d %q tls=%v", r.RequestURI, r.Header["Nonce"], len(r.Header), b, r.TLS != nil)
}

// eventually polls with a deadline.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (n *napper) dial(t *testing.T) *wire {
	w := dial(t, n.Addr().String())
	if n.tls != nil {
		w.Conn = tls.Client(w.Conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // this test's certificate
		if err := w.Conn.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.from = bufio.NewReader(w.Conn)
	}
	return w
}

// asks has w ask for a nonce, which must come back, alone.
func (n *napper) asks(t *testing.T, w *wire, nonce string) *http.Response {
	t.Helper()
	w.send(request(nonce))
	return n.gets(t, w, nonce)
}

func request(nonce string) string {
	return "POST /handler/" + nonce + " HTTP/1.1\r\nHost: a\r\nNonce: " + nonce + "\r\nContent-Length: " + fmt.Sprint(len(nonce)) + "\r\n\r\n" + nonce
}

func (n *napper) gets(t *testing.T, w *wire, nonce string) *http.Response {
	t.Helper()
	_, body, resp, err := w.answer("POST")
	if want := fmt.Sprintf("/handler/%s [%s] 2 %q tls=%v", nonce, nonce, nonce, n.tls != nil); err != nil || body != want {
		t.Errorf("got %q, %v, want %q", body, err, want)
		return &http.Response{}
	}
	if resp.Header.Get("X-"+nonce) != "set" || len(resp.Header) != 3 { // Date and Content-Length, and no other nonce
		t.Errorf("got %v", resp.Header)
	}
	return resp
}

// napping is how many connections nap or wait in a loop, and how many naps there were.
func (n *napper) napping() (now int, ever uint64) {
	n.Server.mu.Lock()
	defer n.Server.mu.Unlock()
	for c := range n.conns {
		if c.loop.Load() != nil && c.state.Load() == idle {
			now++
		}
	}
	n.naps.mu.Lock()
	defer n.naps.mu.Unlock()
	return now + len(n.naps.by), n.naps.last
}

func (n *napper) asleep(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprint(want, " nap"), func() bool { now, _ := n.napping(); return now == want })
}

// A halver keeps the second half of what is written.
type halver struct {
	net.Conn
	halve bool
	sent  int
	kept  []byte
}

// Write implements io.Writer.
func (h *halver) Write(p []byte) (int, error) {
	if !h.halve {
		return h.Conn.Write(p)
	}
	h.sent = len(p) / 2
	h.kept = append(h.kept, p[h.sent:]...)
	if _, err := h.Conn.Write(p[:h.sent]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *halver) rest(t *testing.T) {
	if _, err := h.Conn.Write(h.kept); err != nil {
		t.Error(err)
	}
	h.kept = nil
}

// dialHalver is dial over TLS with a halver below it.
func (n *napper) dialHalver(t *testing.T) (*wire, *halver) {
	w := dial(t, n.Addr().String())
	raw := &halver{Conn: w.Conn}
	w.Conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // this test's certificate
	w.from = bufio.NewReader(w.Conn)
	return w, raw
}
