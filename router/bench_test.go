package router_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
)

// BenchmarkEngines is whole requests through the router, decisions, assertion,
// limits, metrics and log line included, on both engines in one run. cpu-us/op
// has the client's and the cell's share in it, which "cell" alone shows.
func BenchmarkEngines(b *testing.B) {
	cell := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	addrs := map[string]string{}
	for _, name := range []string{"std", "h1"} {
		w := newWorldOn(b, name, map[directory.CellID]http.Handler{"c1": cell}, func(o *router.Options, _ *pool.Limits) {
			o.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
		})
		addrs[name] = w.addr
		addrs["cell"] = w.table.View().Cells()[0].Address[len("http://"):]
	}
	for _, name := range []string{"cell", "std", "h1", "std", "h1", "std", "h1"} {
		b.Run(name, func(b *testing.B) {
			benchRequests(b, addrs[name])
		})
	}
}

func benchRequests(b *testing.B, addr string) {
	b.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a benchmark's connection to its own machine
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	from := bufio.NewReader(c)
	request := []byte("GET /v1/projects?limit=50 HTTP/1.1\r\nHost: acme." + base + "\r\nAccept: application/json\r\nX-Request-Id: 0123456789abcdef\r\n\r\n")
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.StatusCode, err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}

// BenchmarkLooks is what it costs to look into requests: as BenchmarkEngines on h1,
// by policy. The cell's and the client's share is in all of them.
func BenchmarkLooks(b *testing.B) {
	for _, tt := range []struct{ name, policy string }{
		{"off", "waf: {mode: off}"},
		{"another-route", "routes: [{name: a, prefix: /v1/a, waf: block}]\nwaf: {mode: off}"},
		{"detect", "{}"},
		{"contract", "contract: {file: api.yaml, mode: block}\nwaf: {mode: off}"},
		{"block", "waf: {mode: block}"},
	} {
		in := inspectedOn(b, "h1", tt.policy)
		b.Run(tt.name, func(b *testing.B) { benchRequests(b, in.addr) })
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
