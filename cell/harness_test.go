package cell_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/projects"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/store/storetest"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const cellID = directory.CellID("c1")

// Two tenants of the cell; tests of their own data may use others.
const (
	acme  = directory.TenantID(101)
	bravo = directory.TenantID(102)
)

// A harness is one cell with a Postgres database and a Redis of its own.
type harness struct {
	t          *testing.T
	url        string
	handler    http.Handler // behind url
	redisURL   string
	store      *store.Store
	db         *cell.DB
	cache      *cell.Cache
	assertions token.Keys
	tokens     token.Keys
	registry   *prometheus.Registry
	log        *logBuffer
}

// A logBuffer may be written by the server while the test reads.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts a cell; change may alter how.
func start(t *testing.T, change ...func(*cell.Options)) *harness {
	t.Helper()
	h := &harness{
		t: t, redisURL: testkit.Redis(t), assertions: keys(t, "a"), tokens: keys(t, "t"),
		registry: prometheus.NewRegistry(), log: &logBuffer{},
	}
	h.store = openStore(t)
	log := slog.New(slog.NewJSONHandler(h.log, nil))
	cache, err := cell.OpenCache(h.redisURL, log)
	if err != nil {
		t.Fatal(err)
	}
	h.cache = cache
	t.Cleanup(func() { _ = cache.Close() })
	db := cell.NewDB(h.store)
	h.db = db
	o := cell.Options{
		Cell: cellID, Modules: []cell.Module{cell.NewAPI(db), projects.New(db, cache)}, DB: db, Cache: cache,
		AssertionKeys: h.assertions, TokenKeys: h.tokens, RatePerMinute: 60_000, Log: log, Registry: h.registry,
	}
	for _, f := range change {
		f(&o)
	}
	server, err := cell.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	h.url, h.handler = srv.URL, server
	return h
}

// openStore prepares a fresh database and opens it as the application does.
func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, _ := openOwned(t)
	return s
}

// openOwned is openStore, with the URL of the database's owner.
func openOwned(t *testing.T) (s *store.Store, owner string) {
	t.Helper()
	owner = storetest.Postgres(t)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	app := testkit.SetUser(t, owner, "app_"+strings.TrimPrefix(u.Path, "/"), "secret")
	if err := store.Prepare(t.Context(), owner, app, cell.NewAPI(nil), projects.New(nil, nil)); err != nil {
		t.Fatal(err)
	}
	s, err = store.Open(t.Context(), app, store.Options{Cell: cellID})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, owner
}

func keys(t *testing.T, id string) token.Keys {
	t.Helper()
	k, err := token.ParseKeys(token.NewKey(id))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A request is one call of the API, as a router would forward it.
type request struct {
	tenant directory.TenantID // 0 is acme
	epoch  directory.Epoch    // 0 is 1
	method string
	path   string
	body   string
	header map[string]string // "" takes a header away
}

// A response is an answer, read whole.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send performs a request; it fails the test only where there is no answer.
func (h *harness) send(q request) response {
	h.t.Helper()
	req, err := h.build(q)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, body}
}

func (h *harness) build(q request) (*http.Request, error) {
	if q.tenant == 0 {
		q.tenant = acme
	}
	if q.epoch == 0 {
		q.epoch = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	h.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, q.method, h.url+q.path, strings.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	assertion, err := h.assertions.Assert(token.Assertion{Tenant: q.tenant, Cell: cellID, Epoch: q.epoch, Window: time.Now().Unix()})
	if err != nil {
		return nil, err
	}
	req.Header.Set(token.AssertionHeader, assertion)
	if q.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range q.header {
		if v == "" {
			req.Header.Del(k)
			continue
		}
		req.Header.Set(k, v)
	}
	return req, nil
}

// want performs a request that must answer with status.
func (h *harness) want(status int, q request) response {
	h.t.Helper()
	r := h.send(q)
	if r.status != status {
		h.t.Fatalf("%s %s: got %d, want %d\n%s", q.method, q.path, r.status, status, r.body)
	}
	return r
}

// decode reads the body of an answer.
func decode[T any](t *testing.T, r response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("decode %s: %v", r.body, err)
	}
	return v
}

// A document is what tests read of a problem.
type document struct {
	Code   string `json:"code"`
	Source string `json:"source"`
	Errors []struct{ Pointer, Detail string }
	Extra  map[string]string
}

// createProject and createTask are the tests' usual beginning.
func (h *harness) createProject(tenant directory.TenantID, name string) projects.Project {
	h.t.Helper()
	body := fmt.Sprintf(`{"name":%q}`, name)
	return decode[projects.Project](h.t, h.want(201, request{tenant: tenant, method: "POST", path: "/v1/projects", body: body}))
}

func (h *harness) createTask(tenant directory.TenantID, project, title string) projects.Task {
	h.t.Helper()
	body := fmt.Sprintf(`{"title":%q}`, title)
	path := "/v1/projects/" + project + "/tasks"
	return decode[projects.Task](h.t, h.want(201, request{tenant: tenant, method: "POST", path: path, body: body}))
}

// position is the number of events that the tenant has written.
func (h *harness) position(tenant directory.TenantID) int64 {
	h.t.Helper()
	type position struct{ Last, Published int64 }
	return decode[position](h.t, h.want(200, request{tenant: tenant, method: "GET", path: "/v1/events/position"})).Last
}
