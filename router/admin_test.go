package router_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/pool"
	"github.com/cellway/cellway/router/table"
)

// admin is the router's admin listener.
func (w *world) admin() http.Handler {
	a := run.NewAdmin()
	w.router.Admin(a)
	a.SetReady(true)
	return a.Handler(w.registry)
}

func page(t *testing.T, h http.Handler, target string, into any) int {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", target, nil))
	if into != nil {
		if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v in %s", target, err, rec.Body)
		}
	}
	return rec.Code
}

func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	h := w.admin()
	for name, tt := range map[string]struct {
		query   string
		verdict router.Verdict
		source  string
		cell    directory.CellID
		code    problem.Kind
	}{
		"host":      {"host=acme." + base + "&path=/v1/x", router.Forward, "host", "c1", ""},
		"path":      {"path=/t/bolt/v1", router.Forward, "path", "c2", ""},
		"header":    {"header.x-tenant=bolt", router.Forward, "header", "c2", ""},
		"cookie":    {"cookie.tenant=bolt", router.Forward, "cookie", "c2", ""},
		"token":     {"token=" + url.QueryEscape(strings.TrimPrefix(w.token(2), "Bearer ")), router.Forward, "token", "c2", ""},
		"conflict":  {"host=acme." + base + "&path=/t/bolt/", router.Refuse, "", "", problem.TenantConflict},
		"reserved":  {"host=acme." + base + "&header.cell_x=1", router.Refuse, "", "", problem.ReservedHeader},
		"unknown":   {"host=nobody." + base, router.Refuse, "", "", problem.TenantNotFound},
		"suspended": {"host=stone." + base, router.Refuse, "host", "c1", problem.TenantSuspended},
		"sign-up":   {"host=" + base + "&path=/signup&method=post", router.Signup, "", "", ""},
		"hello":     {"host=" + base, router.Hello, "", "", ""},
	} {
		var e router.Explanation
		if code := page(t, h, "/explain?"+tt.query, &e); code != 200 {
			t.Errorf("%s: got %d", name, code)
		}
		if e.Verdict != tt.verdict || e.Source != tt.source || e.Cell != tt.cell || e.Code != tt.code || e.Why == "" || len(e.Sources) != 5 {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	if code := page(t, h, "/explain?path=nowhere", nil); code != 400 {
		t.Errorf("a path that is none: got %d", code)
	}
	w.placed(place(1, "c1", 2, directory.Cutover), "acme")
	var e router.Explanation
	if page(t, h, "/explain?header.x-tenant=acme", &e); e.Verdict != router.Hold || e.Epoch != 2 || e.State != directory.Cutover {
		t.Errorf("cutover: got %+v", e)
	}
}

func TestTableAndReadiness(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	var info router.TableInfo
	if page(t, w.admin(), "/table", &info); info.Version != 1 || info.Tenants != 4 || info.Source != "directory" || info.Bytes == 0 || len(info.Cells) != 2 {
		t.Errorf("got %+v", info)
	}
	if code := page(t, w.admin(), "/readyz", nil); code != 200 {
		t.Errorf("ready: got %d", code)
	}
	empty := newWorld(t, nil, func(o *router.Options, _ *pool.Limits) { o.Table = table.New() })
	if code := page(t, empty.admin(), "/readyz", nil); code != 503 {
		t.Errorf("without a table: got %d", code)
	}
	empty.want(empty.do("GET", base, "/", ""), 503, problem.Unavailable)
}

// TestKeysAndReadiness: who knows no credentials yet is not ready, and says of no key
// that it is not valid. A directory without any is known, too.
func TestKeysAndReadiness(t *testing.T) {
	t.Parallel()
	var ring token.Ring
	w := newWorld(t, twoCells(), func(o *router.Options, _ *pool.Limits) { o.Chain.Ring = &ring })
	key, _ := token.NewAPIKey()
	ask := func(bearer string) answer { return w.do("GET", "acme."+base, "/", "", "Authorization", bearer) }
	if code := page(t, w.admin(), "/readyz", nil); code != 503 {
		t.Errorf("without keys: ready is %d", code)
	}
	a := ask("Bearer " + key)
	if w.want(a, 503, problem.Unavailable); a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.want(ask("Bearer "+key[:len(key)-1]), 401, problem.Unauthenticated) // a key of nobody's, whatever is known
	if a := ask(w.token(1)); a.StatusCode != 200 {
		t.Errorf("a token: got %d %s", a.StatusCode, a.body)
	}
	if err := ring.Apply(directory.Credentials{Version: 1}); err != nil {
		t.Fatal(err)
	}
	if code := page(t, w.admin(), "/readyz", nil); code != 200 {
		t.Errorf("with keys: ready is %d", code)
	}
	w.want(ask("Bearer "+key), 401, problem.Unauthenticated)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	w.do("GET", "acme."+base, "/", "")
	w.do("GET", "nobody."+base, "/", "")
	eventually(t, "counting", func() bool { n, _ := testutil.GatherAndCount(w.registry, "router_requests_total"); return n == 2 })
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"cell", "code", "reason", "outcome", "kind"}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(allowed, l.GetName()) {
					t.Errorf("%s has label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	for _, want := range []string{
		"router_requests_total", "router_request_duration_seconds", "router_overhead_seconds", "router_directory_version",
		"router_directory_age_seconds", "router_held_requests", "router_refused_total", "router_snapshot_source",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// deadFeed is a directory that does not answer.
type deadFeed struct{ directory.Feed }

func (deadFeed) Snapshot(context.Context) (directory.Update, error) {
	return directory.Update{}, problem.New(problem.Unavailable, "dead")
}

func (deadFeed) Changes(context.Context, string, directory.Version, time.Duration) (directory.Update, error) {
	return directory.Update{}, problem.New(problem.Unavailable, "dead")
}

// TestStaticStability: a router follows a directory, keeps its table on disk,
// and another one starts and routes from that with the directory dead.
func TestStaticStability(t *testing.T) {
	t.Parallel()
	cell := httptest.NewServer(named("c1"))
	t.Cleanup(cell.Close)
	dir := directorytest.NewMemory()
	ctx := t.Context()
	if _, err := dir.AddCell(ctx, directory.Cell{ID: "c1", Address: cell.URL, Capacity: 10, Incarnation: "i"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "table")
	first := newWorld(t, nil, func(o *router.Options, _ *pool.Limits) { o.Table = table.New() })
	tab := first.router.Table
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 2)
	go func() { done <- first.router.Follow(ctx, polled{dir}, "router-1") }()
	go func() { done <- table.NewDisk(path, "", tab, first.router.Log).Run(ctx) }()
	eventually(t, "loading", tab.Loaded)
	if err := dir.Heartbeat(ctx, "c1", "i"); err != nil {
		t.Fatal(err)
	}
	made, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new tenant", func() bool { _, ok := tab.View().BySlug("acme"); return ok })
	if a := first.do("GET", "acme."+base, "/", ""); a.StatusCode != 200 {
		t.Errorf("from the directory: got %d %s", a.StatusCode, a.body)
	}
	stop()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}

	again := table.New()
	second := newWorld(t, nil, func(o *router.Options, _ *pool.Limits) {
		o.Table, o.Registry = again, prometheus.NewRegistry()
	})
	if err := table.NewDisk(path, "", again, second.router.Log).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop = context.WithCancel(t.Context())
	go func() { done <- second.router.Follow(ctx, polled{deadFeed{}}, "router-1") }()
	if a := second.do("GET", "acme."+base, "/", ""); a.StatusCode != 200 || !strings.HasPrefix(a.body, "c1 ") {
		t.Errorf("from disk: got %d %s", a.StatusCode, a.body)
	}
	// The tenant may have signed up since the file was written: nobody says that there is none.
	second.want(second.do("GET", "newer."+base, "/", ""), 503, problem.Unavailable)
	if e, _ := again.View().BySlug("acme"); e.Tenant != made.ID || again.View().Source() != table.FromDisk {
		t.Errorf("got %+v from %s", e, again.View().Source())
	}
	stop()
	<-done
}

// TestHoldOverHTTP: requests that come during a cutover are answered by the new
// owner, and none fails.
func TestHoldOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoCells(), nil)
	w.placed(place(1, "c1", 2, directory.Cutover), "acme")
	answers := make(chan answer, 20)
	for range 20 {
		go func() { answers <- w.do("POST", "acme."+base, "/p", "body") }()
	}
	eventually(t, "holding", func() bool { return gauge(w.registry, "router_held_requests") == 20 })
	w.placed(place(1, "c2", 3, directory.Active), "acme")
	for range 20 {
		if a := <-answers; a.StatusCode != 200 || !strings.HasSuffix(a.body, " /p body") || !strings.HasPrefix(a.body, "c2 ") {
			t.Errorf("got %d %s", a.StatusCode, a.body)
		}
	}
	eventually(t, "the log lines", func() bool { return strings.Count(w.log.String(), `"held":`) == 20 })
}

func gauge(reg *prometheus.Registry, name string) float64 {
	families, _ := reg.Gather()
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}
