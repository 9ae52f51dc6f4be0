package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
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

func (n *napper) napping() (now int, ever uint64) {
	n.naps.mu.Lock()
	defer n.naps.mu.Unlock()
	return len(n.naps.by), n.naps.last
}

func (n *napper) asleep(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprint(want, " nap"), func() bool { now, _ := n.napping(); return now == want })
}

// TestIdleConnectionsHaveNoGoroutine, neither those over TLS nor those that a loop gave
// away, as often as they are idle. It is not parallel: it looks at all goroutines.
func TestIdleConnectionsHaveNoGoroutine(t *testing.T) {
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(nil)
		wires := make([]*wire, 64)
		for i := range wires {
			wires[i] = n.dial(t)
		}
		for round := range 3 {
			for i, w := range wires {
				n.asks(t, w, fmt.Sprint("r", round, "c", i))
			}
			n.asleep(t, len(wires))
			eventually(t, "no goroutine has a connection", func() bool {
				buf := make([]byte, 1<<20)
				return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "h1.(*conn)")
			})
		}
	})
}

func TestNapsEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, n *napper, w *wire){
		"by the client's close": func(_ *testing.T, _ *napper, w *wire) { _ = w.Close() },
		"by the end of its half": func(t *testing.T, _ *napper, w *wire) {
			_ = w.Conn.(interface{ CloseWrite() error }).CloseWrite()
			w.ends()
		},
		"by a reset": func(_ *testing.T, _ *napper, w *wire) {
			nc := w.Conn
			if s, ok := nc.(*tls.Conn); ok {
				nc = s.NetConn()
			}
			_ = nc.(*net.TCPConn).SetLinger(0)
			_ = nc.Close()
		},
		"by Shutdown": func(t *testing.T, n *napper, w *wire) {
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			w.ends()
		},
		"by Close": func(_ *testing.T, n *napper, w *wire) {
			_ = n.Server.Close()
			w.ends()
		},
		"by a request, the last one": func(t *testing.T, n *napper, w *wire) {
			n.Retire()
			if resp := n.asks(t, w, "last"); !resp.Close {
				t.Error("it goes on")
			}
			w.ends()
		},
		"by what is no request": func(_ *testing.T, _ *napper, w *wire) {
			w.send("no\r\n\r\n")
			if got := w.ends(); !strings.Contains(got, " 400 ") {
				t.Errorf("got %q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
				n := start(nil)
				w, other := n.dial(t), n.dial(t)
				n.asks(t, other, "other")
				n.asks(t, w, "a")
				n.asleep(t, 2)
				end(t, n, w)
				_ = other.Close()
				eventually(t, "all are forgotten", func() bool {
					n.Server.mu.Lock()
					defer n.Server.mu.Unlock()
					return len(n.conns) == 0 && n.now.Load() == 0
				})
				n.asleep(t, 0)
			})
		})
	}
}

// TestNapsAreNoLongerThanIdle, and the oldest end first.
func TestNapsAreNoLongerThanIdle(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Idle = 20 * time.Millisecond })
		for i := range 3 {
			wires := []*wire{n.dial(t), n.dial(t), n.dial(t)}
			for _, w := range wires {
				n.asks(t, w, fmt.Sprint(i))
			}
			for _, w := range wires {
				w.ends()
			}
		}
	})
}

// TestHalfARecordOverANap: a TLS record whose first half was received before the nap,
// and one whose first half ends the nap, are whole when the second half comes.
func TestHalfARecordOverANap(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Nap = 20 * time.Millisecond })
		if n.tls == nil {
			t.Skip("no records")
		}
		w := dial(t, n.Addr().String())
		raw := &halver{Conn: w.Conn}
		w.Conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // this test's certificate
		w.from = bufio.NewReader(w.Conn)
		before, during := false, false
		for i := 0; !before || !during; i++ {
			nonce := fmt.Sprint("n", i)
			n.asks(t, w, "first"+nonce)
			if i%2 == 1 { // else the first half is there before the nap, or it is as if not
				n.asleep(t, 1)
			}
			_, last := n.napping()
			had := n.read.Load()
			raw.halve = true
			w.send(request(nonce))
			raw.halve = false
			eventually(t, "half a record is read, and then the connection naps or has napped", func() bool {
				read := n.read.Load() - had
				now, ever := n.napping()
				before = before || i%2 == 0 && read == int64(raw.sent) && now == 1 && ever > last
				during = during || i%2 == 1 && read == int64(raw.sent) && now == 0
				return read == int64(raw.sent) && (now == 1 || ever > last || i%2 == 1)
			})
			raw.rest(t)
			n.gets(t, w, nonce)
		}
	})
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

// TestCanariesOverNaps: connections that nap before each request, all at once, get
// their own answers, and see nothing of others.
func TestCanariesOverNaps(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(nil)
		var all sync.WaitGroup
		for i := range 16 {
			w := n.dial(t)
			all.Go(func() {
				for j := range 50 {
					nonce := fmt.Sprint("c", i, "r", j)
					if j%7 == 6 { // two at once: the second is in memory when the first is answered
						w.send(request(nonce) + request("second"+nonce))
						n.gets(t, w, nonce)
						n.gets(t, w, "second"+nonce)
						continue
					}
					n.asks(t, w, nonce)
				}
			})
		}
		all.Wait()
		if _, ever := n.napping(); ever < 16 {
			t.Errorf("only %d naps", ever)
		}
	})
}

// TestNapsWhileClientsComeAndGo: bytes, ends and a Shutdown meet naps at all moments,
// and no connection is left.
func TestNapsWhileClientsComeAndGo(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		n := start(func(s *Server) { s.Idle = time.Millisecond })
		var all sync.WaitGroup
		for i := range 16 {
			wires := make([]*wire, 8)
			for j := range wires {
				wires[j] = n.dial(t)
			}
			all.Go(func() {
				for _, w := range wires {
					for range i % 5 {
						w.send(request("x"))
						if _, _, _, err := w.answer("POST"); err != nil {
							break // idle for too long, or shut down
						}
					}
					_ = w.Close()
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		all.Wait()
		n.asleep(t, 0)
	})
}

// TestWhoLeavesIsNoticedLongAfterTheNap: an exchange under way is watched beyond the
// time at which its connection would nap.
func TestWhoLeavesIsNoticedLongAfterTheNap(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		told := make(chan struct{})
		n := start(func(s *Server) {
			s.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				close(told)
			})
		})
		w := n.dial(t)
		w.send("GET /handler/waits HTTP/1.1\r\nHost: a\r\n\r\n")
		eventually(t, "it is watched", func() bool {
			n.Server.mu.Lock()
			defer n.Server.mu.Unlock()
			for c := range n.conns {
				c.watcher.mu.Lock()
				defer c.watcher.mu.Unlock()
				return c.looks != nil
			}
			return false
		})
		_ = w.Close()
		select {
		case <-told:
		case <-time.After(patience):
			t.Error("nobody noticed")
		}
	})
}

// TestWhoCannotNapWaitsAwake, and is served, and ended when it was idle for too long.
func TestWhoCannotNapWaitsAwake(t *testing.T) {
	t.Parallel()
	eachShelter(t, func(t *testing.T, start func(func(*Server)) *napper) {
		t.Parallel()
		n := start(func(s *Server) { s.Idle, s.Whole = 50*time.Millisecond, 50*time.Millisecond })
		n.naps.stop() // as where the kernel watches no more
		w := n.dial(t)
		for i := range 3 {
			n.asks(t, w, fmt.Sprint("n", i))
		}
		w.ends()
	})
}
