package peers

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/testkit/product"
	"github.com/cellway/cellway/loadtest/figure"
)

// TestMain lets this binary be a process of the benchmark.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Part {
		if err := RunPart(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestShortRun starts everything that is installed for a moment. No figure is
// looked at but for being there: this machine may be busy.
func TestShortRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" || runtime.NumCPU() < 2 {
		t.Skip("needs Linux, two cores, and processes")
	}
	bin := binaries(t)
	r, err := Run(t.Context(), Options{
		Only: []string{"P1-cpu", "P7-chunked", "P8-idle", "P10-handshakes", "P12-h2", "P13-connections"}, Peers: []string{"cellway-h1", "nginx", "haproxy", "reverseproxy"},
		Rounds: 1, For: 200 * time.Millisecond, Rate: 200, Conns: 4, Idle: 10, Tenants: 100, Source: "../..", BinDir: bin, Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	for _, want := range []string{"P1-cpu", "P7-chunked", "P8-idle", "cellway-h1, full", "cellway-h1, resumed", "reverseproxy, resumed", "P13-connections"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %s in\n%s", want, &table)
		}
	}
	if _, err := installed("h2load"); err == nil && !regexp.MustCompile(`P12-h2 +cellway-h1 +\d`).MatchString(table.String()) {
		t.Error("nothing was measured over HTTP/2")
	}
	for _, name := range []string{"nginx", "haproxy"} {
		if _, err := installed(name); err != nil && !strings.Contains(table.String(), "not measured: "+name) {
			t.Errorf("%s is not installed and the report does not say so", name)
		}
	}
}

// binaries is where the router is.
func binaries(t *testing.T) string {
	t.Helper()
	bin, err := product.In(t.TempDir(), "router")
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestFraming(t *testing.T) {
	t.Parallel()
	stream := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" +
		"HTTP/1.1 204 No Content\r\n\r\n" +
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"
	for step := 1; step <= len(stream); step++ {
		var f framing
		messages := 0
		for at := 0; at < len(stream); at += step {
			for rest := []byte(stream[at:min(at+step, len(stream))]); len(rest) > 0; {
				var whole bool
				var err error
				if rest, whole, err = f.feed(rest); err != nil {
					t.Fatal(err)
				}
				if whole {
					messages++
				}
			}
		}
		if messages != 3 || !f.ok() {
			t.Fatalf("in pieces of %d: got %d messages, want 3", step, messages)
		}
	}
	for _, bad := range []string{"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"} {
		if _, _, err := new(framing).feed([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for n := 1; n <= 1000; n++ {
		h.add(time.Duration(n) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.quantile(q); got < want || got > want+want/64+1 {
			t.Errorf("%v: got %v, want %v and at most 1/64 more", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 127, 128, 129, 1 << 20, 1<<40 + 12345} {
		if got := uint64(value(bucket(v))); got < v || got > v+v/64+1 { //nolint:gosec // not negative
			t.Errorf("%d is counted as %d", v, got)
		}
	}
}

func TestWhatToolsSay(t *testing.T) {
	t.Parallel()
	wrk, err := parseWrk([]byte("  1 threads and 64 connections\n  30211 requests in 1.10s, 36.20MB read\nRequests/sec:  27464.5\n"))
	if err != nil || wrk.Done != 30211 || wrk.Took != 1100*time.Millisecond {
		t.Errorf("wrk: got %+v, %v", wrk, err)
	}
	const spoken = "TLS Protocol: TLSv1.3\nApplication protocol: h2\n"
	h2, err := parseH2load([]byte(spoken+"finished in 511.50ms, 9775.17 req/s\nrequests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored\nstatus codes: 5000 2xx, 0 3xx\n"), "h2")
	if err != nil || h2.Done != 5000 || h2.Took != 511500*time.Microsecond {
		t.Errorf("h2load: got %+v, %v", h2, err)
	}
	calls, err := parseStrace("% time     seconds  usecs/call     calls    errors syscall\n 50.00    0.1   2   40   3 read\n------\n100.00    0.223   2     81234       12 total\n")
	if err != nil || calls != 81234 {
		t.Errorf("strace: got %v, %v", calls, err)
	}
	if got := parseFocused([]byte("Showing nodes accounting for 0.46s, 31.08% of 1.48s total")); got != 31.08 {
		t.Errorf("pprof: got %v", got)
	}
	for _, out := range []string{"", "5 requests in 1.00s, 1KB read\n  Non-2xx or 3xx responses: 5\n", "0 requests in 1.00s"} {
		if _, err := parseWrk([]byte(out)); err == nil {
			t.Errorf("wrk's %q was taken", out)
		}
	}
	for _, said := range []string{
		"", "TLS Protocol: TLSv1.2\nApplication protocol: h2\n", "TLS Protocol: TLSv1.3\nApplication protocol: http/1.1\n",
	} {
		if _, err := parseH2load([]byte(said+"finished in 1.00s\n5 succeeded, 0 failed\nstatus codes: 5 2xx\n"), "h2"); err == nil {
			t.Errorf("h2load's %q was taken", said)
		}
	}
	if _, err := parseH2load([]byte(spoken+"nothing"), "h2"); err == nil {
		t.Error("h2load's nothing was taken")
	}
	if _, err := parseStrace("nothing"); err == nil {
		t.Error("strace's nothing was taken")
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	t.Parallel()
	l := &lab{ours: "cellway-h1", contenders: []*contender{{name: "cellway-h1"}, {name: "nginx"}}}
	m := cpuFigure()
	m.keep(l, map[string]map[string]float64{"cellway-h1": {"": 10}, "nginx": {"": 20}})
	m.keep(l, map[string]map[string]float64{"cellway-h1": {"": 40}, "nginx": {"": 50}})
	m.keep(l, map[string]map[string]float64{"cellway-h1": {"": 40}}) // nginx's was refused
	m.Conclude()
	for _, v := range m.Values {
		if v.Name == "cellway-h1 / nginx" {
			if len(v.Rounds) != 2 || v.Median != 0.65 || v.Met == nil || !*v.Met {
				t.Errorf("got %+v", v)
			}
			r := &figure.Report{Command: "make bench-peers", Figures: []figure.Figure{m.Figure}}
			if svg := string(plot(r)); !strings.Contains(svg, "nginx") || strings.Contains(svg, "/ nginx") {
				t.Errorf("the plot is\n%s", svg)
			}
			return
		}
	}
	t.Errorf("no ratio in %+v", m.Values)
}

// A goal stands in the report also where no round has a value for it.
func TestAGoalWithoutAValueSaysWhy(t *testing.T) {
	t.Parallel()
	l := &lab{ours: "cellway-h1", contenders: []*contender{{name: "cellway-h1"}, {name: "nginx"}}}
	m := h2Figure()
	m.goals = map[string]string{"p50": "<= 1", "p99": "<= 2"}
	m.keep(l, map[string]map[string]float64{"cellway-h1": {"": 10, "p99": 1}})
	m.refuse("nginx", "the load used 99 % of a core")
	m.fail("cellway-h1, p50", "no sample shows it\nmore")
	m.conclude(l)
	got := map[string]string{}
	for _, v := range m.Values {
		got[v.Name] = v.Verdict()
	}
	for name, want := range map[string]string{
		"cellway-h1 / nginx": "<= 1: NOT MEASURED (nginx: 1 rounds refused: the load used 99 % of a core)",
		"cellway-h1 / caddy": "<= 0.6: NOT MEASURED (caddy is not in this run)",
		"cellway-h1, p50":    "<= 1: NOT MEASURED (cellway-h1, p50: no sample shows it)",
		"cellway-h1, p99":    "<= 2: met",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if _, ok := got["cellway-h1 / haproxy"]; ok {
		t.Error("a ratio that has neither goal nor value is there")
	}
}

func TestARunThatTheLoadLimitedIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		core         string
		load, origin time.Duration
		refused      bool
	}{
		{core1, 400 * time.Millisecond, 390 * time.Millisecond, false},
		{core1, 500 * time.Millisecond, 310 * time.Millisecond, true}, // they share a core
		{"", 500 * time.Millisecond, 310 * time.Millisecond, false},
		{"", 810 * time.Millisecond, 0, true},
	} {
		err := (&lab{loadCore: tt.core}).fair(time.Second, tt.load, tt.origin)
		if isBottleneck(err) != tt.refused {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Only: []string{"nothing"}, Source: "../.."}, {Rounds: -1, Source: "../.."}, {Source: t.TempDir()}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
