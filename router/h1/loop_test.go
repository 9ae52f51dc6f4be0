package h1

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// directly takes every plain request to one address, unless its path says no, and
// remembers how flights ended.
type directly struct {
	up   *Upstream
	mu   sync.Mutex
	done []string
}

// Take implements Direct.
func (d *directly) Take(f *Flight) Course {
	if strings.HasPrefix(f.Request.Target(), "/handler") {
		return ByHandler
	}
	f.To, f.Timeout = d.up, 10*time.Second
	if strings.HasPrefix(f.Request.Target(), "/hangs") {
		f.Timeout = 50 * time.Millisecond
	}
	return Flies
}

// Done implements Direct.
func (d *directly) Done(f *Flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, fmt.Sprint(f.Request.Target(), " ", f.Status, " ", f.Bytes, " ", f.Err))
}

// flown starts a server in front of cell that flies what it can, on the driver
// that is asked for.
func flown(t *testing.T, loops int, cell http.HandlerFunc, change func(*Server)) (*Server, *directly, string) {
	t.Helper()
	up := &Upstream{Addr: stdServerOf(t, cell)}
	t.Cleanup(up.Close)
	d, out := &directly{up: up}, &Outgoing{}
	s := &Server{Direct: d, Loops: loops, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := up.Forward(w, r, out); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})}
	if change != nil {
		change(s)
	}
	return s, d, serve(t, s)
}

func stdServerOf(t *testing.T, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: h}
	go func() { _ = s.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

// eachDriver runs a test on loops and on goroutines.
func eachDriver(t *testing.T, test func(t *testing.T, loops int)) {
	for name, loops := range map[string]int{"loops": 2, "goroutines": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, loops)
		})
	}
}

const large = 3 << 20

// cellOfFlights answers by the path.
func cellOfFlights(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/large":
		w.Header().Set("Content-Length", fmt.Sprint(large))
		_, _ = w.Write(bytes.Repeat([]byte("x"), large))
	case "/chunks":
		for range 50 {
			_, _ = io.WriteString(w, strings.Repeat("y", 1000))
			_ = http.NewResponseController(w).Flush()
		}
	case "/hangs":
		<-r.Context().Done()
	case "/cut":
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "12345")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
	default:
		_, _ = fmt.Fprintf(w, "%s %s %q", r.Method, r.RequestURI, body)
	}
}

// TestFlightsOnEachDriver: whatever the driver and wherever the bytes are split,
// clients get the same; what is unusual reaches the handler.
func TestFlightsOnEachDriver(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		_, _, addr := flown(t, loops, cellOfFlights, nil)
		for _, path := range []string{"/a", "/handler/b", "/large", "/chunks", "/events", "/c"} {
			c := dial(t, addr)
			in := "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
			for _, piece := range []string{in[:7], in[7:30], in[30:60], in[60:]} {
				c.send(piece)
			}
			got := c.ends()
			if n := strings.Count(got, "HTTP/1.1 200 OK"); n != 2 || !strings.Contains(got, `GET /next ""`) {
				t.Errorf("%s: got %d answers, %.300q", path, n, got)
			}
			if x, y := strings.Count(got, "x"), strings.Count(got, "y"); path == "/large" && x < large || path == "/chunks" && y < 50_000 {
				t.Errorf("%s: got %d x and %d y", path, x, y)
			}
		}
	})
}

// TestFlightsThatFail: a cell that hangs, and one that cuts.
func TestFlightsThatFail(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		_, d, addr := flown(t, loops, cellOfFlights, nil)
		ask := func(path string) string {
			c := dial(t, addr)
			c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			return c.ends()
		}
		if got := ask("/hangs"); !strings.Contains(got, " 502 ") {
			t.Errorf("hangs: got %q", got)
		}
		if got := ask("/cut"); strings.Contains(got, "1234512345") || !strings.Contains(got, " 200 ") {
			t.Errorf("cut: got %q", got)
		}
		d.mu.Lock()
		if len(d.done) != 1 || !strings.HasPrefix(d.done[0], "/cut 200 5 net/http: abort") {
			t.Errorf("got %q", d.done)
		}
		d.mu.Unlock()
	})
}

// TestFlightsAreDrained: Shutdown waits for a flight, and ends what is idle.
func TestFlightsAreDrained(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		began, end := make(chan struct{}), make(chan struct{})
		s, _, addr := flown(t, loops, func(w http.ResponseWriter, _ *http.Request) {
			close(began)
			<-end
			_, _ = io.WriteString(w, "late")
		}, nil)
		waits, busy := dial(t, addr), dial(t, addr)
		busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		<-began
		drained := make(chan error, 1)
		go func() { drained <- s.Shutdown(context.Background()) }()
		if got := waits.ends(); got != "" {
			t.Errorf("idle: got %q", got)
		}
		close(end)
		if got := busy.ends(); !strings.HasSuffix(got, "late") || !strings.Contains(got, "Connection: close") {
			t.Errorf("got %q", got)
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}

// TestFlightsToATLSCell: nothing reaches a cell in the clear that wants TLS, on any driver.
func TestFlightsToATLSCell(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		cell := httptest.NewUnstartedServer(http.HandlerFunc(cellOfFlights))
		cell.Config.ErrorLog = log.New(t.Output(), "", 0)
		cell.StartTLS()
		t.Cleanup(cell.Close)
		trusting := x509.NewCertPool()
		trusting.AddCert(cell.Certificate())
		_, d, addr := flown(t, loops, nil, func(s *Server) {
			up := s.Direct.(*directly).up
			up.Addr, up.TLS = cell.Listener.Addr().String(), &tls.Config{RootCAs: trusting, ServerName: "example.com", MinVersion: tls.VersionTLS13}
		})
		c := dial(t, addr)
		c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
		c.send("GET /handler/b HTTP/1.1\r\nHost: a\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got := c.ends()
		for _, want := range []string{`POST /a "hi"`, `GET /handler/b ""`, `GET /c ""`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %q", want, got)
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.done) != 2 {
			t.Errorf("flights: got %q", d.done)
		}
	})
}

// TestADirectThatPanics ends its connection, and its client gets one answer at most.
func TestADirectThatPanics(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		told := make(chan any, 10)
		_, _, addr := flown(t, loops, cellOfFlights, func(s *Server) {
			s.Direct = panics{s.Direct}
			s.Panicked = func(cause any) { told <- cause }
		})
		c := dial(t, addr)
		c.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := c.ends(); strings.Count(got, "HTTP/1.1 ") > 1 {
			t.Errorf("got %q", got)
		}
		if cause := <-told; cause != "done" {
			t.Errorf("told %v", cause)
		}
	})
}

type panics struct{ Direct }

func (panics) Done(*Flight) { panic("done") }

// TestFlightsOfMany: connections more than there are loops, each gets its own.
func TestFlightsOfMany(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		_, _, addr := flown(t, loops, cellOfFlights, nil)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				c := dial(t, addr)
				for j := range 25 {
					c.send(fmt.Sprintf("GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n", i, j))
				}
				c.send("GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				got := c.ends()
				for j := range 25 {
					if !strings.Contains(got, fmt.Sprintf("GET /%d/%d \"\"", i, j)) {
						t.Errorf("no answer to %d/%d", i, j)
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestNothingIsAskedForWhoHasLeft: a client that leaves is no reason to ask the cell
// again, which would use up what others may repeat.
func TestNothingIsAskedForWhoHasLeft(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, loops int) {
		began, left := make(chan struct{}), make(chan struct{})
		up := &Upstream{Addr: stdServerOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/waits" {
				close(began) // once: a second request panics, and its answer is cut
				<-r.Context().Done()
				close(left)
			}
			_, _ = io.WriteString(w, "done")
		}))}
		t.Cleanup(up.Close)
		var again atomic.Int32
		handled := make(chan error, 1)
		s := &Server{Direct: &directly{up: up}, Loops: loops, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handled <- up.Forward(w, r, &Outgoing{Again: func() bool { again.Add(1); return true }})
		})}
		c := dial(t, serve(t, s))
		c.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
		c.until("done")
		c.send("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
		<-began
		_ = c.Close()
		<-left
		if err := <-handled; !errors.Is(err, context.Canceled) || again.Load() != 0 {
			t.Errorf("got %v, asked again %d times", err, again.Load())
		}
	})
}
