package router_test

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// A lossy is a way to a cell that can lose all that goes one way, as where packets are
// dropped: connections are made and stay, and nothing says that anything is wrong.
type lossy struct {
	url           string
	asks, answers atomic.Bool  // which way is lost
	asked         atomic.Int64 // requests for /x that the router has sent, lost ones too
}

func newLossy(t *testing.T, addr string) *lossy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, wg := &lossy{url: "http://" + ln.Addr().String()}, sync.WaitGroup{}
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait() // their connections are the router's, which has ended
	})
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
			if err != nil {
				_ = in.Close()
				continue
			}
			both := func() { _, _ = in.Close(), out.Close() }
			wg.Go(func() {
				defer both()
				l.carry(out, in, &l.asks)
			})
			wg.Go(func() {
				if whole := l.carry(in, out, &l.answers); whole { // else its end is lost, too
					both()
				}
			})
		}
	})
	return l
}

// carry copies to the end. What is lost leaves a gap, over which nothing is delivered: then the
// copy is not whole.
func (l *lossy) carry(to, from net.Conn, lost *atomic.Bool) (whole bool) {
	whole = true
	for buf := make([]byte, 4<<10); ; {
		n, err := from.Read(buf)
		if bytes.Contains(buf[:n], []byte(" /x HTTP/1.1\r\n")) { // a head is written at once
			l.asked.Add(1)
		}
		if whole = whole && !lost.Load(); whole {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return whole
		}
	}
}

// TestF22AWayThatSwallows what is asked, or what is answered. Once the router knows, nobody
// is sent there, and another cell's tenants notice nothing; when the way is well again, the
// cell has its traffic back after a probe or two, and each request is sent once.
func TestF22AWayThatSwallows(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]func(*lossy) *atomic.Bool{
		"what is asked":    func(l *lossy) *atomic.Bool { return &l.asks },
		"what is answered": func(l *lossy) *atomic.Bool { return &l.answers },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cell := httptest.NewServer(named("c1"))
			t.Cleanup(cell.Close)
			way := newLossy(t, cell.Listener.Addr().String())
			w := newWorld(t, map[directory.CellID]http.Handler{"c2": named("c2")}, func(o *router.Options, _ *pool.Limits) { o.CellTimeout = time.Second })
			w.at("c1", way.url)
			if a := w.do("GET", "acme."+base, "/x", ""); a.StatusCode != 200 {
				t.Fatalf("got %d %s", a.StatusCode, a.body)
			}
			lost(way).Store(true)
			eventually(t, "the circuit opens", func() bool {
				w.want(w.do("POST", "acme."+base, "/x", "x"), 503, problem.CellUnavailable)
				return w.metricOf("router_cell_circuit_open", "c1") == 1
			})
			before := way.asked.Load()
			for range 200 {
				w.want(w.do("GET", "acme."+base, "/x", ""), 503, problem.CellUnavailable)
				if way.asked.Load() != before {
					t.Fatal("a request was sent while nothing came back")
				}
			}
			if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
				t.Errorf("the other cell: got %d", a.StatusCode)
			}
			probes := w.metricOf("router_cell_probes_total", "c1")
			lost(way).Store(false)
			eventually(t, "the cell's traffic comes back", func() bool { return w.do("GET", "acme."+base, "/x", "").StatusCode == 200 })
			if n := w.metricOf("router_cell_probes_total", "c1") - probes; n > 3 { // one that was lost, and what the machine's load costs
				t.Errorf("it took %v probes to find that the way is well", n)
			}
			const herd = 50
			var served atomic.Int64
			var all sync.WaitGroup
			for range herd {
				all.Go(func() {
					if w.do("GET", "acme."+base, "/x", "").StatusCode == 200 {
						served.Add(1)
					}
				})
			}
			all.Wait()
			if n := way.asked.Load() - before; n > herd+1 || served.Load() == 0 {
				t.Errorf("back: %d of %d were served, and %d sent since nothing came back, want each once at most", served.Load(), herd+1, n)
			}
		})
	}
}
