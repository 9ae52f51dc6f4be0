package router_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/certs"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/pool"
)

// usual is the request whose way through the router costs nothing.
const usual = "GET /v1/projects?limit=50 HTTP/1.1\r\nHost: acme." + base +
	"\r\nUser-Agent: test\r\nAccept: application/json\r\nCookie: a=b\r\nX-Request-Id: 0123456789abcdef\r\n\r\n"

// cellOf is a cell that allocates nothing: it answers whatever ends a head.
func cellOf(tb testing.TB, answer string) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	answersOn(tb, ln, answer)
	return "http://" + ln.Addr().String()
}

// answersOn is the cell of cellOf behind ln.
func answersOn(tb testing.TB, ln net.Listener, answer string) {
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 8<<10)
				for out := []byte(answer); ; {
					n, err := c.Read(buf)
					if err != nil || !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						return
					}
					if _, err := c.Write(out); err != nil {
						return
					}
				}
			}()
		}
	}()
}

const smallAnswer = "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2029 00:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

// usualWorld is a router whose tenant acme is on a cell that allocates nothing.
func usualWorld(tb testing.TB, policy string) *world {
	tb.Helper()
	w := newWorld(tb, nil, func(o *router.Options, _ *pool.Limits) {
		p, err := guard.Parse([]byte(policy))
		o.Guard = guard.New(o.Registry)
		if err == nil {
			err = o.Guard.Use(p)
		}
		if err != nil {
			tb.Fatal(err)
		}
		o.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
	})
	w.apply(directory.Update{Version: 2, Since: 1, Cells: []directory.CellRoute{{ID: "c1", Address: cellOf(tb, smallAnswer), State: directory.Ready}}})
	return w
}

// askOnce sends the usual request on c and reads its answer, which ends with "{}".
func askOnce(c net.Conn, request, buf []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for have := 0; !bytes.HasSuffix(buf[:have], []byte("\r\n\r\n{}")); {
		n, err := c.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
	}
	if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
		return errors.New("the answer is not 200")
	}
	return nil
}

// raw sends bytes and gives all that comes back until the router closes.
func (w *world) raw(in string) string {
	w.tb.Helper()
	c, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, in); err != nil {
		w.tb.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		w.tb.Errorf("read the answer: %v", err)
	}
	return string(got)
}

// TestUsualRequestAllocatesNothing: from the client's bytes to the log line.
func TestUsualRequestAllocatesNothing(t *testing.T) {
	if engine == "std" {
		t.Skip("it has no direct way")
	}
	for name, policy := range map[string]string{
		"no policy":                          "",
		"limits, and looks at another route": "tiers: {default: {requests: 1000000, window: 1s}}\nroutes: [{name: a, prefix: /v1/a, waf: block}]",
		"detect, one in a second":            "waf: {mode: detect, per_second: 1}",
	} {
		t.Run(name, func(t *testing.T) {
			usualWorld(t, policy).allocatesNothing(usual)
		})
	}
}

// TestUsualRequestOverTLSAllocatesNothing: from a client who speaks TLS, to a cell that
// does not and to one that does. What is counted is crypto/tls's: a few bytes each time that
// it is asked for a record, by the client and by us, and for the cell's answer by us, the
// cell, and us when we look whether the connection is quiet.
func TestUsualRequestOverTLSAllocatesNothing(t *testing.T) {
	if engine == "std" {
		t.Skip("it has no direct way")
	}
	s := newSecure(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answersOn(t, tls.NewListener(ln, s.part(t, certs.RoleCell, "c1").ServerConfig(certs.RoleRouter)), smallAnswer)
	for i, tt := range []struct {
		cell   string
		others uint64
	}{{cellOf(t, smallAnswer), 2}, {"https://" + ln.Addr().String(), 5}} {
		v := directory.Version(1 + i)
		s.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: "c1", Address: tt.cell, State: directory.Ready}}})
		c, err := tls.Dial("tcp", s.addr, s.clientConfig(acme)) //nolint:noctx // a test's connection to its own machine
		if err != nil {
			t.Fatal(err)
		}
		s.allocates(c, usual, tt.others)
		_ = c.Close()
	}
}

// allocatesNothing sends the request again and again, and holds that none allocates,
// each on the direct way (with the race detector, only that). It counts all allocations of many requests:
// testing.AllocsPerRun rounds down, and has the loops share one processor with their
// clients. The least of several counts, for a second that begins costs its first
// request something.
func (w *world) allocatesNothing(request string) {
	w.tb.Helper()
	c, err := net.Dial("tcp", w.addr) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		w.tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	w.allocates(c, request, 0)
}

// allocates is allocatesNothing by a connection that there is, with so many allocations
// for each request that are somebody else's.
func (w *world) allocates(c net.Conn, request string, others uint64) {
	w.tb.Helper()
	buf, sent := make([]byte, 8<<10), []byte(request)
	const requests = 200
	many := func() (allocations uint64, flown int64) {
		var before, after runtime.MemStats
		taken := w.taken.Load()
		runtime.ReadMemStats(&before)
		for range requests {
			if err := askOnce(c, sent, buf); err != nil {
				w.tb.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs, w.taken.Load() - taken
	}
	many() // what is made once
	least, most := many()
	for range 9 {
		allocations, flown := many()
		least, most = min(least, allocations), max(most, flown)
	}
	if least > others*requests && !raced {
		w.tb.Errorf("got %d allocations for %d requests, want %d", least, requests, others*requests)
	}
	if most != requests {
		w.tb.Errorf("%d of %d requests went the direct way", most, requests)
	}
}

// TestTracesAreGoneOnWith: ids of a trace go both ways, the caller's or new ones,
// and what is not usual of them is the handler's.
func TestTracesAreGoneOnWith(t *testing.T) {
	if engine == "std" {
		t.Skip("its spans are net/http's")
	}
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	t.Cleanup(func() {
		otel.SetTracerProvider(provider)
		otel.SetTextMapPropagator(propagator)
	})
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	cell := &traceWitness{seen: make(chan string, 1)}
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	for name, tt := range map[string]struct{ field, want string }{
		"none":       {"", ""},
		"of another": {"Traceparent: 00-" + id + "-" + span + "-01\r\n", id},
		"twice":      {"Traceparent: 00-" + id + "-" + span + "-01\r\nTraceparent: x\r\n", id},
		"broken":     {"Traceparent: 00-" + strings.ToUpper(id) + "-" + span + "-01\r\n", ""},
		"with state": {"Traceparent: 00-" + id + "-" + span + "-01\r\nTracestate: a=b\r\n", id},
	} {
		got := w.raw("GET / HTTP/1.1\r\nHost: acme." + base + "\r\n" + tt.field + "Connection: close\r\n\r\n")
		toCell, _, _ := strings.Cut(<-cell.seen, "\n")
		_, toClient, _ := strings.Cut(got, "Traceparent: ")
		toClient, _, _ = strings.Cut(toClient, "\r\n")
		if len(toCell) != 55 || toCell != toClient || !strings.Contains(toCell, tt.want) || strings.Contains(toCell, span) || !strings.HasSuffix(toCell, "-00") {
			t.Errorf("%s: the cell got %q, the client %q, want trace %q", name, toCell, toClient, tt.want)
		}
	}
}

type traceWitness struct{ seen chan string }

// ServeHTTP implements http.Handler.
func (c *traceWitness) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.seen <- r.Header.Get("Traceparent") + "\n"
}

// TestAFlightThatFailedIsNotSentTwice, either, where the cell's address has changed since: what
// was sent may have been done.
func TestAFlightThatFailedIsNotSentTwice(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	inside, fail := make(chan struct{}, 4), make(chan struct{})
	cell := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/post" {
			return
		}
		posts.Add(1) // and it is committed
		inside <- struct{}{}
		<-fail
		if nc, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = nc.Close() // the answer is lost
		}
	})
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell}, nil)
	second := httptest.NewServer(cell)
	t.Cleanup(second.Close)
	bearer := w.token(1)
	if a := w.do("POST", acme, "/", "x", "Authorization", bearer); a.StatusCode != 200 { // from now on it is known, and flies
		t.Fatalf("got %d %s", a.StatusCode, a.body)
	}
	got := make(chan answer, 1)
	go func() { got <- w.do("POST", acme, "/post", "x", "Authorization", bearer) }()
	<-inside
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Cells: []directory.CellRoute{{ID: "c1", Address: second.URL, State: directory.Ready}}})
	if a := w.do("GET", acme, "/", "", "Authorization", bearer); a.StatusCode != 200 {
		t.Errorf("another request: got %d %s", a.StatusCode, a.body)
	}
	close(fail)
	if a := <-got; a.code() != problem.CellUnavailable {
		t.Errorf("got %d %s", a.StatusCode, a.body)
	}
	if n := posts.Load(); n != 1 {
		t.Errorf("the cell has had %d POSTs", n)
	}
}

// TestLinesLookAlike: the log line of a request that the handler serves and that
// of one which it does not have the same keys in the same order.
func TestLinesLookAlike(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	var lines []string
	for _, path := range []string{"/plain", "/not%20plain"} {
		log := &syncBuffer{}
		w := newWorld(t, map[directory.CellID]http.Handler{"c1": ok}, func(o *router.Options, _ *pool.Limits) {
			o.Log = telemetry.NewLog(log, new(slog.LevelVar), "router", "r1")
		})
		w.raw("GET " + path + " HTTP/1.1\r\nHost: acme." + base + "\r\nX-Request-Id: abc-1\r\nConnection: close\r\n\r\n")
		if err := w.server.Shutdown(t.Context()); err != nil { // then the line is written
			t.Fatal(err)
		}
		lines = append(lines, strings.Join(keysOf(log.String()), " "))
	}
	if lines[0] != lines[1] || !strings.Contains(lines[0], "request_id") {
		t.Errorf("got\n%s\n%s", lines[0], lines[1])
	}
}

// keysOf is the keys of a line of JSON, in order.
func keysOf(line string) (keys []string) {
	d := json.NewDecoder(strings.NewReader(line))
	for isKey := false; ; isKey = !isKey {
		token, err := d.Token()
		if err != nil {
			return keys
		}
		if isKey {
			keys = append(keys, fmt.Sprint(token))
		}
	}
}
