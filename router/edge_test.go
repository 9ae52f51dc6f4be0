package router_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
)

var engines = []string{"std", "h1", "loop"}

// once skips a test in which no engine has a part on all of them but the first.
func once(t *testing.T) {
	t.Helper()
	if engine != engines[0] {
		t.Skip("it is the same on each engine")
	}
}

// guarded is a world with a policy.
func guarded(t *testing.T, engine, policy string, cells map[directory.CellID]http.Handler, changes ...func(*router.Options)) *world {
	t.Helper()
	p, err := guard.Parse([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	g := guard.New(prometheus.NewRegistry())
	if err := g.Use(p); err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, engine, cells, func(o *router.Options, _ *pool.Limits) {
		o.Guard = g
		for _, change := range changes {
			change(o)
		}
	})
}

// TestTenantOverItsRate: who asks too often is told when to come back, and the
// others are served.
func TestTenantOverItsRate(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		w := guarded(t, engine, "tiers: {default: {requests: 2, window: 1h}}", twoCells())
		for left := 1; left >= 0; left-- {
			a := w.do("GET", "acme."+base, "/x", "")
			want := `"default";r=` + string(rune('0'+left)) + `;t=`
			if a.StatusCode != 200 || a.Header.Get("RateLimit-Policy") != `"default";q=2;w=3600` || !strings.HasPrefix(a.Header.Get("RateLimit"), want) {
				t.Errorf("%s: got %d with %q and %q, want %s", engine, a.StatusCode, a.Header.Get("RateLimit-Policy"), a.Header.Get("RateLimit"), want)
			}
		}
		a := w.do("GET", "acme."+base, "/x", "")
		w.want(a, 429, problem.RateLimited)
		if after := a.Header.Get("Retry-After"); after != "1800" || !strings.HasPrefix(a.Header.Get("RateLimit"), `"default";r=0;`) {
			t.Errorf("%s: got Retry-After %q, RateLimit %q", engine, after, a.Header.Get("RateLimit"))
		}
		if a := w.do("GET", "bolt."+base, "/x", ""); a.StatusCode != 200 {
			t.Errorf("%s: another tenant pays: %d %s", engine, a.StatusCode, a.body)
		}
	}
}

// TestClientOverItsRate: an address is what a trusted hop says it is, and what
// anybody else says counts for nothing.
func TestClientOverItsRate(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		w := guarded(t, engine, "trusted: [127.0.0.1]\nclients: {requests: 1, window: 1h}", twoCells())
		if a := w.do("GET", "acme."+base, "/x", "", "X-Forwarded-For", "198.51.100.7"); a.StatusCode != 200 {
			t.Errorf("%s: got %d %s", engine, a.StatusCode, a.body)
		}
		w.want(w.do("GET", "bolt."+base, "/x", "", "X-Forwarded-For", "1.1.1.1, 198.51.100.7"), 429, problem.RateLimited)
		if a := w.do("GET", "acme."+base, "/x", "", "X-Forwarded-For", "198.51.100.8"); a.StatusCode != 200 {
			t.Errorf("%s: another address pays: %d %s", engine, a.StatusCode, a.body)
		}
		w = guarded(t, engine, "clients: {requests: 1, window: 1h}", twoCells())
		w.do("GET", "acme."+base, "/x", "", "X-Forwarded-For", "198.51.100.7")
		w.want(w.do("GET", "nobody."+base, "/x", "", "X-Forwarded-For", "198.51.100.8"), 429, problem.RateLimited)
	}
}

// TestTrustedHops: a cell is told what a trusted hop says, followed by that hop.
func TestTrustedHops(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		got := make(chan string, 1)
		cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- strings.Join(r.Header["X-Forwarded-For"], "|") })
		w := guarded(t, engine, "trusted: [127.0.0.0/8]", map[directory.CellID]http.Handler{"c1": cell})
		w.do("GET", "acme."+base, "/x", "", "X-Forwarded-For", "198.51.100.7")
		if via := <-got; via != "198.51.100.7, 127.0.0.1" {
			t.Errorf("%s: the cell was told %q", engine, via)
		}
	}
}

// TestSignupsAreOfTheirClients: behind a balancer, too, the directory counts the
// address that signs up, and nothing that its sender made up.
func TestSignupsAreOfTheirClients(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		for policy, want := range map[string][]string{
			"trusted: [127.0.0.0/8]": {"198.51.100.7", "198.51.100.8"},
			"":                       {"127.0.0.1", "127.0.0.1"},
		} {
			got := make(chan string, 1)
			dir := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- strings.Join(r.Header["X-Forwarded-For"], "|") }))
			defer dir.Close()
			w := guarded(t, engine, policy, twoCells(), func(o *router.Options) { o.Directory = parseURL(t, dir.URL) })
			for i, forwarded := range []string{"1.1.1.1, 198.51.100.7", "198.51.100.8:4711"} {
				if w.do("POST", base, "/signup", "{}", "X-Forwarded-For", forwarded); t.Failed() {
					return
				}
				if seen := <-got; seen != want[i] {
					t.Errorf("%s, policy %q: the directory sees %q, want %q", engine, policy, seen, want[i])
				}
			}
		}
	}
}

// TestRouteBody: a route's own bound holds for a body of any framing.
func TestRouteBody(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		w := guarded(t, engine, "routes: [{name: notes, prefix: /v1/notes, max_body: 1000}]", twoCells())
		w.want(w.do("POST", base, "/t/acme/v1/notes", strings.Repeat("x", 1001)), 413, problem.TooLarge)
		r := w.request(t.Context(), "POST", "acme."+base, "/v1/notes", "")
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 1001)))) // its length is not known
		w.want(w.send(r), 413, problem.TooLarge)
		if a := w.do("POST", "acme."+base, "/v1/notes", strings.Repeat("x", 1000)); a.StatusCode != 200 {
			t.Errorf("%s: a body that fits: got %d %s", engine, a.StatusCode, a.body)
		}
		if a := w.do("POST", "acme."+base, "/v1/other", strings.Repeat("x", 1001)); a.StatusCode != 200 {
			t.Errorf("%s: another route: got %d %s", engine, a.StatusCode, a.body)
		}
	}
}

// TestPlacesAreGivenBack: a tenant's requests at once are bounded, and each gives
// its place back, however it ends.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		arrived, finish := make(chan struct{}), make(chan struct{})
		cell := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/wait":
				arrived <- struct{}{}
				<-finish
			case "/abort":
				panic(http.ErrAbortHandler)
			}
		})
		w := guarded(t, engine, "tiers: {default: {concurrent: 1}}", map[directory.CellID]http.Handler{"c1": cell, "c2": cell})
		for range 3 {
			w.do("GET", "acme."+base, "/abort", "")
		}
		done := make(chan answer)
		go func() { done <- w.do("GET", "acme."+base, "/wait", "") }()
		<-arrived
		w.want(w.do("GET", "acme."+base, "/x", ""), 429, problem.RateLimited)
		if a := w.do("GET", "bolt."+base, "/x", ""); a.StatusCode != 200 {
			t.Errorf("%s: another tenant pays: %d %s", engine, a.StatusCode, a.body)
		}
		close(finish)
		<-done
		if a := w.do("GET", "acme."+base, "/x", ""); a.StatusCode != 200 {
			t.Errorf("%s: after it: got %d %s", engine, a.StatusCode, a.body)
		}
	}
}

// TestLoopsKnowTheGuardsConnections: behind it, too, connections are driven by loops.
func TestLoopsKnowTheGuardsConnections(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Close() }()
	c, err := net.Dial("tcp", inner.Addr().String()) //nolint:noctx // a test's connection to its own machine
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	nc, err := guard.New(prometheus.NewRegistry()).Listener(inner).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if _, ok := nc.(h1.Wrapped); !ok {
		t.Error("they are not")
	}
}

var traceID = regexp.MustCompile(`"trace_id":"[^"]*",`)

// TestRefusalsLookAlike: whether the handler refuses or who flies, on a loop or not, the
// client reads the same, once counted.
func TestRefusalsLookAlike(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, policy string }{
		{"the tenant's rate", "tiers: {default: {requests: 1, window: 1h}}"},
		{"the client's rate", "clients: {requests: 1, window: 1h}\ntiers: {default: {requests: 9, window: 1h}}"},
		{"the route's body", "routes: [{name: small, prefix: /small, max_body: 1}]"},
		{"no place", "tiers: {default: {concurrent: 9}}"},
	} {
		var want string
		for _, engine := range engines { // the first has only the handler
			const path = "/small/x"
			w := guarded(t, engine, tt.policy, twoCells())
			if tt.name == "no place" {
				w.at("c1", "http://127.0.0.1:1")
			} else {
				w.do("GET", "acme."+base, path, "")
			}
			refused := func() string {
				in := "POST " + path + " HTTP/1.1\r\nHost: acme." + base + "\r\nX-Request-Id: abc-1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
				resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(w.raw(in))), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				resp.Header.Del("Traceparent") // other tests' propagator is everybody's
				names := slices.Sorted(maps.Keys(resp.Header))
				return fmt.Sprintln(resp.StatusCode, names, resp.Header.Get("Retry-After"), traceID.ReplaceAllString(string(body), ""))
			}
			got := refused()
			if tt.name == "no place" {
				eventually(t, "the circuit opens", func() bool {
					got = refused()
					return w.metricOf("router_cell_circuit_open", "c1") == 1
				})
			}
			if err := w.server.Shutdown(t.Context()); err != nil { // then all is counted
				t.Fatal(err)
			}
			if tt.name != "no place" {
				got += fmt.Sprintln("of the cell's:", w.metricOf("router_requests_total", "c1"))
			}
			if want == "" {
				want = got
			}
			if got != want || !strings.Contains(got, `"request_id":"abc-1"`) {
				t.Errorf("%s on %s: got\n%swant\n%s", tt.name, engine, got, want)
			}
		}
	}
}

// A verifying is an issuer that counts what it verifies.
type verifying struct {
	issuer
	asked *atomic.Int64
}

// Verify implements identify.Verifier.
func (v verifying) Verify(bearer, method, path string, now time.Time) (identify.Bearer, error) {
	v.asked.Add(1)
	return v.issuer.Verify(bearer, method, path, now)
}

// TestNoTokenIsVerifiedOverTheRate: an address that asks too often is refused before anybody
// looks at a signature.
func TestNoTokenIsVerifiedOverTheRate(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		var asked atomic.Int64
		w := guarded(t, engine, "clients: {requests: 3, window: 1h}", twoCells(), func(o *router.Options) {
			o.AuthRequired, o.Chain.Others = true, verifying{asked: &asked}
		})
		for n := range 10 {
			a := w.do("GET", "acme."+base, "/x", "", "Authorization", "Bearer nobodys")
			if want := a.StatusCode == 429; want != (n >= 3) {
				t.Errorf("%s: request %d: got %d %s", engine, n, a.StatusCode, a.body)
			}
		}
		if n := asked.Load(); n > 3 {
			t.Errorf("%s: %d were verified, want 3 at most", engine, n)
		}
	}
}
