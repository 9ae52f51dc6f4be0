package router_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// at makes a cell's address another one.
func (w *world) at(cell directory.CellID, address string) {
	w.tb.Helper()
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: cell, Address: address, State: directory.Ready}}})
}

// TestADeadCellFailsFastAndComesBack: F1. After the first failure nobody waits
// for the cell and few ask it; when it is back, so is its traffic.
func TestADeadCellFailsFastAndComesBack(t *testing.T) {
	t.Parallel()
	cell := httptest.NewUnstartedServer(named("c1"))
	addr := cell.Listener.Addr().String()
	cell.Start()
	w := newWorld(t, twoCells(), nil)
	w.at("c1", "http://"+addr)
	if a := w.do("GET", "acme."+base, "/", ""); a.StatusCode != 200 {
		t.Fatalf("got %d", a.StatusCode)
	}
	cell.Close()
	eventually(t, "the circuit opens", func() bool {
		w.want(w.do("POST", "acme."+base, "/", "x"), 503, problem.CellUnavailable)
		return w.metricOf("router_cell_circuit_open", "c1") == 1
	})
	before := w.metricOf("router_cell_attempts_total", "c1")
	for range 100 {
		a := w.do("GET", "acme."+base, "/", "")
		w.want(a, 503, problem.CellUnavailable)
		if a.Header.Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
	}
	if sent := w.metricOf("router_cell_attempts_total", "c1") - before; sent > 20 {
		t.Errorf("a dead cell was sent %v of 100 requests", sent)
	}
	if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
		t.Errorf("the other cell: got %d", a.StatusCode)
	}
	again := httptest.NewUnstartedServer(named("c1"))
	_ = again.Listener.Close()
	again.Listener = listenAt(t, addr)
	again.Start()
	t.Cleanup(again.Close)
	eventually(t, "the cell's traffic comes back", func() bool {
		return w.do("GET", "acme."+base, "/", "").StatusCode == 200
	})
}

// TestATimeoutIsAReasonToAsk: a request that the cell has not answered in its time
// makes the router ask the cell, which answers: it is slow, and not dead.
func TestATimeoutIsAReasonToAsk(t *testing.T) {
	t.Parallel()
	for _, on := range engines {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-over
			})
			w := newWorldOn(t, on, map[directory.CellID]http.Handler{"c1": cell}, func(o *router.Options, _ *pool.Limits) {
				o.CellTimeout = 50 * time.Millisecond
			})
			t.Cleanup(func() { close(over) })
			w.want(w.do("POST", "acme."+base, "/", "x"), 503, problem.CellUnavailable)
			eventually(t, "the router asks", func() bool { return w.metricOf("router_cell_probes_total", "c1") > 0 })
			if n := w.metricOf("router_cell_circuit_opened_total", "c1"); n != 0 {
				t.Errorf("a cell that answers the question was closed %v times", n)
			}
		})
	}
}

// TestErrorsOfACellPassThrough: F4. A 5xx is an answer: it goes to the client,
// nothing is repeated, and the circuit stays closed.
func TestErrorsOfACellPassThrough(t *testing.T) {
	t.Parallel()
	var calls, others atomic.Int64
	cell := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		http.Error(w, "its own", http.StatusServiceUnavailable)
	})
	other := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) })
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": other}, nil)
	for range 50 {
		if a := w.do("GET", "acme."+base, "/", ""); a.StatusCode != 503 || a.body != "its own\n" {
			t.Fatalf("got %d %q, want the cell's own", a.StatusCode, a.body)
		}
	}
	if calls.Load() != 50 || w.metricOf("router_cell_circuit_opened_total", "c1") != 0 {
		t.Errorf("got %d calls for 50 requests, circuit opened %v times", calls.Load(), w.metricOf("router_cell_circuit_opened_total", "c1"))
	}
	if n := others.Load(); n != 0 {
		t.Errorf("the other cell was asked %d times", n)
	}
}

// TestWhatTheRouterRepeatsIsBudgeted: F25. A cell closes each connection that it has
// answered on once, when the next request comes: the router sends some of those again,
// at first, and then one of twenty.
func TestWhatTheRouterRepeatsIsBudgeted(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("net/http repeats as it likes")
	}
	var used sync.Map
	var got atomic.Int64
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/x" {
			return // a probe
		}
		got.Add(1)
		if _, before := used.LoadAndDelete(r.RemoteAddr); before { // the next connection may have its port
			panic(http.ErrAbortHandler)
		}
		used.Store(r.RemoteAddr, true)
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	const asked, saved = 400, 10
	served := 0
	for range asked {
		if w.do("GET", "acme."+base, "/x", "").StatusCode == 200 {
			served++
		}
	}
	repeats := got.Load() - asked
	if most := int64(saved + asked/20); repeats > most || repeats <= saved {
		t.Errorf("got %d repeats of %d requests, want %d to %d", repeats, asked, saved+1, most)
	}
	if counted := w.metricOf("router_cell_repeats_total", "c1"); served == asked || counted != float64(asked-served)+float64(repeats) {
		t.Errorf("%d of %d requests were served, %v counted as repeated or kept back, want %d", served, asked, counted, int64(asked-served)+repeats)
	}
}

// TestOneTenantsBadRouteClosesNothing: health is the cell's. A route that only
// ever breaks off does not shut the cell for others.
func TestOneTenantsBadRouteClosesNothing(t *testing.T) {
	t.Parallel()
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bad") {
			panic(http.ErrAbortHandler)
		}
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	for range 20 {
		w.want(w.do("POST", "acme."+base, "/bad", "x"), 503, problem.CellUnavailable)
		if a := w.do("GET", "acme."+base, "/", ""); a.StatusCode != 200 {
			t.Fatalf("a good route beside a bad one: got %d %s", a.StatusCode, a.body)
		}
	}
}

// TestTheCellIsToldTheTimeLeft, and a client cannot say it.
func TestTheCellIsToldTheTimeLeft(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, func(o *router.Options, _ *pool.Limits) { o.CellTimeout = 5 * time.Second })
	w.do("GET", "acme."+base, "/", "")
	text := strings.Join((<-got).Values(token.TimeLeftHeader), ",")
	left, ok := token.ParseTimeLeft(text)
	if !ok || left > 5*time.Second || left < time.Second {
		t.Errorf("the cell was told %q, want a little under 5000", text)
	}
	w.want(w.do("GET", "acme."+base, "/", "", token.TimeLeftHeader, "1"), 400, problem.ReservedHeader)
}

// TestOverload: of many times what a cell can do some is served and the rest shed,
// and another cell's tenants notice nothing.
func TestOverload(t *testing.T) {
	t.Parallel()
	places := make(chan struct{}, 4)
	cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		time.Sleep(5 * time.Millisecond) // what the cell's work takes
		<-places
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": named("c2")}, nil)
	const clients, each = 200, 20
	var served, shed atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for range each {
				switch a := w.do("GET", "acme."+base, "/", ""); a.StatusCode {
				case 200:
					served.Add(1)
				case 429, 503: // the tenant has its share, or the cell is busy
					shed.Add(1)
				default:
					t.Errorf("got %d %s", a.StatusCode, a.body)
				}
			}
		})
	}
	group.Wait()
	if served.Load() == 0 || shed.Load() == 0 { // how much is served in time is for make blast: it depends on the machine
		t.Errorf("served %d and shed %d of %d", served.Load(), shed.Load(), clients*each)
	}
	if a := w.do("GET", "bolt."+base, "/", ""); a.StatusCode != 200 {
		t.Errorf("the other cell: got %d", a.StatusCode)
	}
}

// metricOf is a metric's value for a cell, summed over its other labels.
func (w *world) metricOf(name, cell string) (sum float64) {
	w.tb.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "cell" && l.GetValue() == cell {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// listenAt listens at an address that was in use until now.
func listenAt(tb testing.TB, addr string) (ln net.Listener) {
	tb.Helper()
	eventually(tb, "the address is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	return ln
}
