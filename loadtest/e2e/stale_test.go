package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/loadtest"
)

// A gate stands between a router and the directory. While it is shut, the
// answers of the long poll do not pass, so that the router stays behind.
type gate struct {
	mu       sync.Mutex
	open     chan struct{} // closed while requests pass
	watching func(r *http.Request) bool
	next     http.Handler
}

func newGate(t *testing.T, w *world) (*gate, string) {
	t.Helper()
	u, err := url.Parse(w.State().Directory.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{open: make(chan struct{}), next: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}}
	close(g.open)
	srv := httptest.NewServer(g)
	t.Cleanup(func() {
		g.set(nil)
		srv.CloseClientConnections()
		srv.Close()
	})
	return g, srv.URL
}

// set shuts the gate for the requests that blocked accepts; nil opens it.
func (g *gate) set(blocked func(r *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
	g.watching = blocked
	if blocked != nil {
		g.open = make(chan struct{})
	}
}

func (g *gate) pass(r *http.Request) (wait <-chan struct{}, blocked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.watching != nil && g.watching(r)
}

// ServeHTTP lets a request through; a blocked one, and the answer of one that
// has become blocked meanwhile, waits for the gate or goes nowhere.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	g.next.ServeHTTP(rec, r)
	if wait, blocked := g.pass(r); blocked {
		select {
		case <-wait:
		case <-r.Context().Done():
			return
		}
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()) // the router may have gone
}

// longPoll is the watch; a router that asks because a cell told it that it is
// behind does not wait.
func longPoll(r *http.Request) bool {
	wait := r.URL.Query().Get("wait")
	return r.URL.Path == "/v1/table/changes" && wait != "" && wait != "0" && wait != "0s"
}

func everything(*http.Request) bool { return true }

// TestStaleEpochChangesNothingAndStillSucceeds: a router that has not heard of a
// new epoch sends a write with the old one. The cell refuses it before it does
// anything; the router learns the new epoch and repeats it, and the tenant
// notices nothing. Where the router cannot learn it, the write fails as a whole.
func TestStaleEpochChangesNothingAndStillSucceeds(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	g, url := newGate(t, w)
	// A busy machine may take longer than the default two seconds to learn the new epoch.
	r := w.newEdge(t, url, filepath.Join(t.TempDir(), "table"), "ROUTER_HOLD_TIMEOUT=7s").start()
	tenant := r.of(w.tenant(t, w.cell(1)))
	if err := tenant.AwaitRoute(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	project(t, tenant, "before")

	g.set(longPoll)
	w.raiseEpoch(t, tenant, 1)
	a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Key: "k1", Body: map[string]string{"name": "through a stale router"}})
	wantStatus(t, a, http.StatusCreated)
	if a.Header.Get("Idempotency-Replayed") != "" {
		t.Error("the answer is a replay: the refused attempt has had an effect")
	}
	if n := events(t, tenant); n != 2 {
		t.Errorf("events: got %d, want 2", n)
	}
	m, err := loadtest.Scrape(within(t, patience), r.admin)
	if err != nil {
		t.Fatal(err)
	}
	if m.Sum("router_stale_epochs_total") == 0 {
		t.Error("the router never was stale: the story did not happen")
	}

	g.set(everything)
	w.raiseEpoch(t, tenant, 2)
	write := loadtest.Request{Path: "/v1/projects", Key: "k2", Body: map[string]string{"name": "with the directory out of reach"}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if a, err := tenant.Do(ctx, write); err == nil && a.Status < 400 {
		t.Errorf("a write at a stale epoch was acknowledged: %s", a)
	}
	elsewhere := loadtest.Adopt(w.ep, &loadtest.Recorder{}, tenant.Tenant, tenant.Token, loadtest.Plan{})
	if got := names(t, elsewhere); got["with the directory out of reach"] != 0 || events(t, elsewhere) != 2 {
		t.Errorf("a refused write has had an effect: %v", got)
	}

	g.set(nil)
	// A client repeats what was refused; the router may first rest as long as it has waited.
	until(t, "the refused write to succeed", func() bool { return ask(t, tenant, write).Status == http.StatusCreated })
	got := names(t, tenant)
	if got["before"] != 1 || got["through a stale router"] != 1 || got["with the directory out of reach"] != 1 || events(t, tenant) != 3 {
		t.Errorf("got %v and %d events, want each once", got, events(t, tenant))
	}
}

// raiseEpoch takes the tenant from epoch e to e+1 in place, in the order of a
// move: the cell stops, the directory decides, the cell goes on.
func (w *world) raiseEpoch(t *testing.T, tenant *loadtest.Tenant, e directory.Epoch) {
	t.Helper()
	ctx := within(t, patience)
	var url string
	for _, c := range w.State().Cells {
		if directory.CellID(c.ID) == tenant.Cell() {
			url = c.DatabaseURL
		}
	}
	db, err := pg.Open(ctx, url, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	run := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	run(`SELECT cell.freeze($1, $2, 'story', 5000)`, int64(tenant.ID), int64(e))
	place := directory.Placement{Tenant: tenant.ID, Cell: tenant.Cell(), Epoch: e + 1, State: directory.Active}
	w.operator(t, http.MethodPut, tenantPath(tenant.ID)+"/placement", place, nil)
	run(`SELECT cell.activate($1, $2, $2, 'story', 5000)`, int64(tenant.ID), int64(e+1))
}
