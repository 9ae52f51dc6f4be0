package router_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

// engine is what the routers of the tests are built on: std, h1, loop, or
// handler, which is h1 without its direct way.
var engine = "std"

// eachEngine runs every test on net/http and on our own engine with either driver.
type eachEngine struct{ m *testing.M }

// Run implements goleak.TestingM.
func (e eachEngine) Run() int {
	// Those that otel begins with keep whatever is set first, for ever: a test that puts
	// them back would leave its own to all later ones, whose requests went no direct way.
	otel.SetTracerProvider(noop.NewTracerProvider())
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator())
	code := 0
	for _, engine = range engines {
		code = max(code, e.m.Run())
	}
	return code
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(eachEngine{m})
}

const base = "cellway.localhost"

// A world is a router with cells that are real HTTP servers.
type world struct {
	tb        testing.TB
	engine    string
	table     *table.Table
	tokens    token.Keys
	assertion token.Keys
	router    *router.Router
	server    run.Server
	addr      string // where the router listens
	registry  *prometheus.Registry
	log       *syncBuffer
	client    *http.Client
	taken     atomic.Int64 // requests, by the direct way
}

// counted is a Direct that counts what it takes.
type counted struct {
	h1.Direct
	taken *atomic.Int64
}

// Take implements h1.Direct.
func (c counted) Take(f *h1.Flight) h1.Course {
	course := c.Direct.Take(f)
	if course == h1.Flies {
		c.taken.Add(1)
	}
	return course
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func keys(tb testing.TB) token.Keys {
	tb.Helper()
	k, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// newWorld starts a router whose tenants acme (1) and bolt (2) are on cells c1
// and c2, and stone (3) is suspended. change may alter the options.
func newWorld(tb testing.TB, cells map[directory.CellID]http.Handler, change func(*router.Options, *pool.Limits)) *world {
	tb.Helper()
	return newWorldOn(tb, engine, cells, change)
}

func newWorldOn(tb testing.TB, engine string, cells map[directory.CellID]http.Handler, change func(*router.Options, *pool.Limits)) *world {
	tb.Helper()
	w := &world{tb: tb, engine: engine, table: table.New(), tokens: keys(tb), assertion: keys(tb), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	u := directory.Update{Version: 1, Routes: []directory.Route{
		{Placement: place(1, "c1", 1, directory.Active), Slug: "acme", Hosts: []string{"www.acme.com"}},
		{Placement: place(2, "c2", 1, directory.Active), Slug: "bolt"},
		{Placement: place(3, "c1", 1, directory.Suspended), Slug: "stone"},
		{Placement: place(4, "c9", 1, directory.Active), Slug: "lost"},
	}}
	for id, h := range cells {
		s := httptest.NewServer(h)
		tb.Cleanup(s.Close)
		u.Cells = append(u.Cells, directory.CellRoute{ID: id, Address: s.URL, State: directory.Ready})
	}
	w.apply(u)
	limits := pool.Limits{Requests: 64, Timeout: 10 * time.Second}
	o := router.Options{
		Chain: &identify.Chain{BaseDomain: base, Keys: w.tokens}, Table: w.table, AssertionKeys: w.assertion,
		CellTimeout: 10 * time.Second, Hold: router.HoldLimits{Time: 10 * time.Second, Requests: 100, Bytes: 1 << 20}, MaxBody: 1 << 20,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Registry: w.registry,
	}
	if change != nil {
		change(&o, &limits)
	}
	w.serve(o, limits)
	w.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 30 * time.Second}
	tb.Cleanup(w.client.CloseIdleConnections)
	return w
}

// serve starts the router on its engine.
func (w *world) serve(o router.Options, limits pool.Limits) {
	w.tb.Helper()
	if w.engine != "std" {
		relay := router.NewRelay(limits)
		w.tb.Cleanup(relay.Close)
		o.Forwarder = relay
	} else {
		proxy := router.NewProxy(limits, o.Log)
		w.tb.Cleanup(proxy.Close)
		o.Forwarder = proxy
	}
	w.router = router.New(o)
	w.tb.Cleanup(w.router.Close)
	w.listen(w.newServer())
}

func (w *world) newServer() run.Server {
	if w.engine == "std" {
		return w.router.NewServer()
	}
	s := w.router.NewEngine()
	if w.engine == "loop" {
		s = w.router.NewLoops()
	}
	if w.engine == "handler" || s.Direct == nil {
		s.Direct = nil
	} else {
		s.Direct = counted{s.Direct, &w.taken}
	}
	return s
}

// listen serves the tenants with s, from now on.
func (w *world) listen(s run.Server) {
	w.tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.tb.Fatal(err)
	}
	w.server, w.addr = s, ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	w.tb.Cleanup(func() {
		// As httptest.Server.Close: what is under way finishes first.
		drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(drain); err != nil {
			_ = s.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			w.tb.Errorf("serve: %v", err)
		}
	})
}

func place(id int, cell directory.CellID, epoch int, s directory.State) directory.Placement {
	return directory.Placement{Tenant: directory.TenantID(id), Cell: cell, Epoch: directory.Epoch(epoch), State: s}
}

func (w *world) apply(u directory.Update) {
	w.tb.Helper()
	if err := w.table.Apply(u); err != nil {
		w.tb.Fatal(err)
	}
}

// placed changes one tenant's placement by one version.
func (w *world) placed(p directory.Placement, slug string) {
	w.tb.Helper()
	v := w.table.View().Version()
	w.apply(directory.Update{Since: v, Version: v + 1, Routes: []directory.Route{{Placement: p, Slug: slug}}})
}

func (w *world) token(tenant directory.TenantID) string {
	w.tb.Helper()
	s, err := w.tokens.Issue(token.Claims{Kind: token.Tenant, Tenant: tenant, Subject: "ann"}, time.Now(), time.Hour)
	if err != nil {
		w.tb.Fatal(err)
	}
	return "Bearer " + s
}

// An answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// code is the problem's code, "" where the answer is none.
func (a answer) code() problem.Kind {
	var doc struct {
		Code   problem.Kind
		Source string
	}
	if a.Header.Get("Content-Type") != problem.ContentType || json.Unmarshal([]byte(a.body), &doc) != nil || doc.Source != "router" {
		return ""
	}
	return doc.Code
}

func (w *world) request(ctx context.Context, method, host, path, body string, headers ...string) *http.Request {
	w.tb.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+w.addr+path, from)
	if err != nil {
		w.tb.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
	}
	return r
}

// do sends a request and fails the test where no answer comes.
func (w *world) do(method, host, path, body string, headers ...string) answer {
	w.tb.Helper()
	return w.send(w.request(w.tb.Context(), method, host, path, body, headers...))
}

func (w *world) send(r *http.Request) answer {
	w.tb.Helper()
	resp, err := w.client.Do(r)
	if err != nil {
		w.tb.Error(err)
		return answer{&http.Response{Header: http.Header{}}, ""}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.tb.Error(err)
	}
	return answer{resp, string(b)}
}

func (w *world) want(a answer, status int, code problem.Kind) {
	w.tb.Helper()
	if a.StatusCode != status || a.code() != code {
		w.tb.Errorf("got %d %q, want %d %q: %s", a.StatusCode, a.code(), status, code, a.body)
	}
}

// named is a cell that answers with its name and what it was asked.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, name+" "+r.Method+" "+r.Host+" "+r.RequestURI+" "+string(b))
	})
}

func twoCells() map[directory.CellID]http.Handler {
	return map[directory.CellID]http.Handler{"c1": named("c1"), "c2": named("c2")}
}

// stale answers as a cell that knows a newer epoch.
func stale(w http.ResponseWriter, state string) {
	problem.Write(w, problem.New(problem.Stale, "not mine").With("state", state), problem.Where{Source: "cell"})
}

// sendsAway answers with a problem as a cell, whatever the method.
func sendsAway(w http.ResponseWriter, r *http.Request, err error) {
	if r.Method == http.MethodHead {
		w.Header().Set(token.RefusalHeader, string(problem.KindOf(err)))
	}
	problem.Write(w, err, problem.Where{Source: "cell"})
}

func parseURL(tb testing.TB, s string) *url.URL {
	tb.Helper()
	u, err := url.Parse(s)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

// eventually waits for something that another goroutine brings about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond) // the pause of a poll with a deadline
	}
}
