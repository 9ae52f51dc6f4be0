package h1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A front is a Server that forwards everything to one Upstream.
type front struct {
	tb     testing.TB
	addr   string
	server *Server
	up     *Upstream
	errs   chan error // of Forward, as many as fit

	timeout time.Duration
}

// patience is how long a front's exchange may take.
const patience = 20 * time.Second

// A way is how a front serves what it can: by its handler, or as flights on goroutines or loops.
type way struct {
	flies bool
	loops int
}

var ways = map[string]way{"handler": {}, "goroutines": {flies: true}, "loops": {true, 2}}

// eachWay runs a test on each way.
func eachWay(t *testing.T, test func(t *testing.T, on way)) {
	for name, on := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

// Take implements Direct.
func (f *front) Take(q *Flight) Course {
	q.To, q.Timeout = f.up, f.timeout
	return Flies
}

// Done implements Direct.
func (f *front) Done(*Flight) {}

// kept is how many connections to the cell are idle.
func (f *front) kept() int {
	return f.up.Kept() + parkedBy(f.server, f.up)
}

func newFront(tb testing.TB, cell string, timeout time.Duration, on ...way) *front {
	tb.Helper()
	f := &front{timeout: timeout, tb: tb, up: &Upstream{Addr: cell, Idle: 4}, errs: make(chan error, 100)}
	f.server = &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if err := f.up.Forward(w, r.WithContext(ctx), &Outgoing{}); err != nil {
			select {
			case f.errs <- err:
			default:
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})}
	for _, w := range on {
		if f.server.Loops = w.loops; w.flies {
			f.server.Direct = f
		}
	}
	f.addr = serve(tb, f.server)
	tb.Cleanup(f.up.Close)
	return f
}

// serve runs s until the test ends.
func serve(tb testing.TB, s *Server) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// A wire is a client's connection.
type wire struct {
	tb testing.TB
	net.Conn
	from *bufio.Reader
}

func dial(tb testing.TB, addr string) *wire {
	tb.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &wire{tb, c, bufio.NewReader(c)}
}

func (w *wire) send(s string) {
	w.tb.Helper()
	if _, err := io.WriteString(w.Conn, s); err != nil {
		w.tb.Logf("send: %v", err) // the answer decides
	}
}

// until reads up to s.
func (w *wire) until(s string) {
	w.tb.Helper()
	for got := ""; !strings.HasSuffix(got, s); {
		b, err := w.from.ReadByte()
		if err != nil {
			w.tb.Fatalf("got %q, then %v; want %s", got, err, s)
		}
		got += string(b)
	}
}

// answer reads one answer to a request with the method given.
func (w *wire) answer(method string) (status int, body string, resp *http.Response, err error) {
	for {
		resp, err = http.ReadResponse(w.from, &http.Request{Method: method})
		if err != nil {
			return 0, "", nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == 101 {
			break
		}
	}
	if resp.StatusCode == 101 {
		return 101, "", resp, nil
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(b), resp, err
}

// canary asks for a nonce, on w or, where that has ended, on a new connection,
// and fails the test where another comes back.
func canary(f *front, w *wire, nonce string) *wire {
	f.tb.Helper()
	for range 2 {
		w.send("GET /echo?" + nonce + " HTTP/1.1\r\nHost: a\r\n\r\n")
		status, body, resp, err := w.answer("GET")
		switch {
		case err != nil && body == "":
			w = dial(f.tb, f.addr)
			continue
		case status != 200 || body != nonce || err != nil:
			f.tb.Errorf("canary %s: got %d %q, %v", nonce, status, body, err)
		case resp.Close:
			return dial(f.tb, f.addr)
		}
		return w
	}
	f.tb.Errorf("canary %s: no answer", nonce)
	return w
}

// odd is a cell that behaves, in every way that a cell may.
func odd() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RawQuery) })
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code := 0
		_, _ = fmt.Sscan(r.PathValue("code"), &code)
		w.WriteHeader(code)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/body", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n)
	})
	mux.HandleFunc("/mirror", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for buf := make([]byte, 4096); ; {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/chunks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		for range 5 {
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", "5000")
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3000000")
		_, _ = io.WriteString(w, strings.Repeat("0123456789", 300000))
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "hinted")
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "bye")
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhello ")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	})
	return mux
}

func newCell(tb testing.TB) string {
	tb.Helper()
	s := httptest.NewUnstartedServer(odd())
	s.Config.ErrorLog = nil
	s.Start()
	tb.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
