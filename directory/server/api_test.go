package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/server"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/run"
)

// withCell is a directory with the ready cell c1.
func withCell(t *testing.T) *directorytest.Memory {
	t.Helper()
	m := directorytest.NewMemory()
	if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 100, Incarnation: "i1"}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWhoMayCall calls every operation of the contract as everybody; cells, about themselves.
func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	b := serve(t, directorytest.NewMemory(), nil)
	doc, err := openapi3.NewLoader().LoadFromData(server.Contract)
	if err != nil {
		t.Fatal(err)
	}
	may := map[token.Kind][]string{
		token.Tenant: {},
		token.Router: {"getTable", "getChanges", "getCredentials"},
		token.Cell: {
			"addCell", "heartbeat", "reportLoad", "witness", "abortMoves", "listDeletions", "tellDeletion",
			"listTenants", "getTenant", "listMoves", "takeClaim", "findClaim", "releaseClaim",
		},
		token.Mover:    {"getCell", "getMove", "leaseMove", "restMove", "advanceMove", "leaseRehearsal", "endRehearsal"},
		token.Operator: nil, // everything
		"service":      {},  // of before there were kinds of services
	}
	for path, item := range doc.Paths.Map() {
		path = strings.NewReplacer("{ref}", "1", "{cell}", "c1", "{kind}", "login", "{name}", "ann", "{move}", "mv_1", "{key}", "k", "{rollout}", "ro_1", "{rehearsal}", "rh_1").Replace(path)
		for method, op := range item.Operations() {
			public := op.OperationID == "signup"
			for _, auth := range []string{"", "Bearer", "Bearer cwt1.k1.e30.AAAA", "Basic eA=="} {
				got := b.call(t, method, path, "", "Authorization: "+auth)
				if (got.status == 401) == public || (got.header.Get("WWW-Authenticate") == "") != public {
					t.Errorf("%s as %q: got %d, %v", op.OperationID, auth, got.status, got.header)
				}
			}
			for kind, list := range may {
				want := public || kind == token.Operator || slices.Contains(list, op.OperationID)
				got := b.call(t, method, path+"?cell=c1", "", "Authorization: bearer "+b.token(t, kind)) // the scheme has no case
				if got.status == 401 || (got.status == 403) == want {
					t.Errorf("%s as %s: got %d, may it: %v", op.OperationID, kind, got.status, want)
				}
			}
		}
	}
}

func TestBadRequestsNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := serve(t, withCell(t), nil)
	for _, tt := range []struct {
		method, path, body string
		status             int
		pointer            string
	}{
		{"POST", "/v1/tenants", `{"slug":"a","colour":"red"}`, 400, "/colour"},
		{"POST", "/v1/tenants", `{"slug":7}`, 400, "/slug"},
		{"POST", "/v1/tenants", `{"slug":"a","hosts":["a.test",7]}`, 400, "/hosts/1"},
		{"POST", "/v1/tenants", `{"slug":"UPPER"}`, 400, "/slug"},
		{"POST", "/v1/tenants", `{}`, 400, "/slug"},
		{"POST", "/v1/tenants", `{"slug":"a"`, 400, ""},
		{"POST", "/v1/tenants", "{\"slug\":\"first\"}\n{\"slug\":\"second\"}", 400, ""},
		{"POST", "/v1/tenants", `{"slug":"first"}]`, 400, ""},
		{"POST", "/v1/tenants", ``, 400, ""},
		{"POST", "/v1/cells", `{"id":"c2","address":"http://c2","capacity":1e3}`, 400, "/capacity"},
		{"POST", "/v1/cells", `{"id":"c2","address":"http://c2","capacity":1,"healthy":true}`, 400, "/healthy"},
		{"PUT", "/v1/cells/c1/state", `{"state":"asleep"}`, 400, "/state"},
		{"GET", "/v1/tenants?limit=0", ``, 400, "query/limit"},
		{"GET", "/v1/tenants?limit=many", ``, 400, "query/limit"},
		{"GET", "/v1/tenants?cursor=x", ``, 400, "query/cursor"},
		{"GET", "/v1/table/changes", ``, 400, "query/since"},
		{"GET", "/v1/table/changes?since=0&wait=1h", ``, 400, "query/wait"},
		{"GET", "/v1/table/changes?since=0&wait=1.2.3s", ``, 400, "query/wait"},
		{"GET", "/v1/table/changes?since=0&router=a%20b", ``, 400, "query/router"},
		{"PATCH", "/v1/tenants/acme", `{"pinned":true}`, 400, "path/ref"},
		{"PUT", "/v1/tenants/1/placement", `{"tenant":2,"cell":"c1","epoch":2,"state":"active"}`, 400, "/tenant"},
		{"POST", "/signup", `{"slug":"a","cell":"c1"}`, 400, "/cell"},
		{"POST", "/signup", `{"slug":"a","hosts":["a.test"]}`, 400, "/hosts"},
		{"POST", "/v1/tenants", `{"slug":"a","name":"` + strings.Repeat("x", 70_000) + `"}`, 413, "-"},
		{"GET", "/v1/nothing", ``, 404, "-"},
		{"DELETE", "/v1/tenants", ``, 405, "-"},
	} {
		got := b.call(t, tt.method, tt.path, tt.body)
		doc := got.problem(t)
		what := fmt.Sprintf("%s %s %.60s", tt.method, tt.path, tt.body)
		if got.status != tt.status || doc.Source != "directory" {
			t.Errorf("%s: got %d %s from %q, want %d", what, got.status, doc.Code, doc.Source, tt.status)
		}
		if tt.pointer == "-" {
			continue
		}
		if len(doc.Errors) == 0 || doc.Errors[0].Pointer != tt.pointer || doc.Errors[0].Detail == "" {
			t.Errorf("%s: got errors %+v, want one at %q", what, doc.Errors, tt.pointer)
		}
	}
	if got := b.call(t, "DELETE", "/v1/tenants", "").header.Get("Allow"); got != "GET, POST" {
		t.Errorf("allow: got %q", got)
	}
	if got := b.call(t, "POST", "/v1/tenants", `{"slug":"a"}`, "Content-Type: text/plain"); got.status != 400 || got.problem(t).Errors[0].Pointer != "header/Content-Type" {
		t.Errorf("text body: got %d %s", got.status, got.body)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	b := serve(t, withCell(t), func(o *server.Options) {
		o.Schema = func(context.Context) (int64, error) { return 42, nil }
	})
	got, err := b.client(t, token.Operator).Version(t.Context())
	if want := run.BuildInfo(); err != nil || got.Version != want["version"] || got.GoVersion != want["goversion"] || got.Schema != 42 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, path := range []string{"/v1/version", "/nowhere"} {
		v := b.call(t, "GET", path, "").header.Get("Api-Version")
		if !strings.Contains(string(server.Contract), "\n  version: '"+v+"'\n") || v == "" {
			t.Errorf("%s: got Api-Version %q, which is not the contract's", path, v)
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	m := withCell(t)
	for i := range 5 {
		if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i)}); err != nil {
			t.Fatal(err)
		}
	}
	b := serve(t, m, nil)
	for _, path := range []string{"/v1/tenants?limit=2", "/v1/audit?limit=2", "/v1/audit?order=newest&limit=2"} {
		var pages, ids []int
		for cursor := ""; len(pages) < 10; {
			var page struct {
				Items []struct {
					ID int `json:"id"`
				} `json:"items"`
				Next string `json:"next_cursor"`
			}
			if err := json.Unmarshal(b.call(t, "GET", path+cursor, "").body, &page); err != nil {
				t.Fatal(err)
			}
			pages = append(pages, len(page.Items))
			for _, item := range page.Items {
				ids = append(ids, item.ID)
			}
			if page.Next == "" {
				break
			}
			cursor = "&cursor=" + page.Next
		}
		if got := fmt.Sprint(pages); got != "[2 2 1]" && got != "[2 2 2 0]" {
			t.Errorf("%s: got pages of %s", path, got)
		}
		if strings.Contains(path, "newest") {
			slices.Reverse(ids)
		}
		if !slices.IsSorted(ids) || ids[0] == ids[len(ids)-1] {
			t.Errorf("%s: got the order %v", path, ids)
		}
	}
}

func TestTableHasAnETag(t *testing.T) {
	t.Parallel()
	m := withCell(t)
	b := serve(t, m, nil)
	first := b.call(t, "GET", "/v1/table", "")
	etag := first.header.Get("ETag")
	if !strings.HasPrefix(etag, `"v1-`) || first.status != 200 {
		t.Fatalf("table: got %d, etag %s", first.status, etag)
	}
	for header, want := range map[string]int{etag: 304, "W/" + etag: 304, `"v0", ` + etag: 304, `*`: 304, `"v0"`: 200, `"v1"`: 200} {
		if got := b.call(t, "GET", "/v1/table", "", "If-None-Match: "+header); got.status != want || got.header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: got %d, want %d", header, got.status, want)
		}
	}
	if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); err != nil {
		t.Fatal(err)
	}
	got := b.call(t, "GET", "/v1/table", "", "If-None-Match: "+etag)
	if got.status != 200 || !strings.HasPrefix(got.header.Get("ETag"), `"v2-`) || !strings.Contains(string(got.body), `"slug":"a"`) {
		t.Errorf("after a change: got %d, etag %s, %s", got.status, got.header.Get("ETag"), got.body)
	}
	// A record that was restored, and has come as far again, has another table.
	if got := serve(t, withCell(t), nil).call(t, "GET", "/v1/table", "", "If-None-Match: "+etag); got.status != 200 {
		t.Errorf("of another record: got %d, want 200", got.status)
	}
}

func TestLongPollsEndWhenTheProcessStops(t *testing.T) {
	t.Parallel()
	stopping, stop := context.WithCancel(t.Context())
	m := withCell(t)
	b := serve(t, m, func(o *server.Options) { o.Stopping = stopping })
	answered := make(chan answer)
	go func() { answered <- b.call(t, "GET", "/v1/table/changes?since=1&router=r1&wait=60s", "") }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := false; !waiting; <-tick.C { // until the poll has begun
		w, err := m.Watermark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting = len(w.Routers) == 1
	}
	stop()
	if got := <-answered; got.status != 200 || !strings.HasPrefix(string(got.body), `{"since":1,"version":1,"head":`) {
		t.Errorf("got %d %s, want an empty update", got.status, got.body)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	m := withCell(t)
	b := serve(t, m, nil)
	a, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.client(t, token.Operator).IssueToken(t.Context(), a.ID, "ann", time.Hour)
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	c, err := b.keys.For(token.Tenants).Verify(got.Token, time.Now())
	if err != nil || c.Kind != token.Tenant || c.Tenant != a.ID || c.Subject != "ann" || c.ExpiresAt != got.ExpiresAt.Unix() {
		t.Errorf("token: got %+v, %v", c, err)
	}
	path := "/v1/tenants/" + a.ID.String() + "/tokens"
	for body, want := range map[string]int{
		`{"subject":"ann","ttl_seconds":0}`: 400, `{"subject":"","ttl_seconds":9}`: 400, `{"subject":"ann","ttl_seconds":99999999}`: 400,
	} {
		if got := b.call(t, "POST", path, body).status; got != want {
			t.Errorf("%s: got %d, want %d", body, got, want)
		}
	}
	if err := m.DeleteTenant(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.call(t, "POST", path, `{"subject":"ann","ttl_seconds":9}`).status; got != http.StatusConflict {
		t.Errorf("a deleted tenant's token: got %d, want 409", got)
	}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	m := withCell(t)
	b := serve(t, m, func(o *server.Options) { o.SignupsPerMinute = 2 })
	up, err := b.client(t, token.Tenant).Signup(t.Context(), directory.NewTenant{Slug: "acme", Name: "Acme"})
	if err != nil {
		t.Fatalf("sign up: %v", err)
	}
	if c, err := b.keys.For(token.Tenants).Verify(up.Token.Token, time.Now()); err != nil || c.Tenant != up.Tenant.ID || up.Tenant.Placement.Cell != "c1" {
		t.Errorf("signed up: got %+v with %+v, %v", up, c, err)
	}
	lines, err := m.Audit(t.Context(), "tenant/"+up.Tenant.ID.String(), 0, 10)
	if err != nil || len(lines) != 1 || lines[0].Actor != "signup" {
		t.Errorf("audit: got %+v, %v", lines, err)
	}
	if got := b.call(t, "POST", "/signup", `{"slug":"acme"}`, "Authorization: ").status; got != http.StatusConflict {
		t.Errorf("the same slug: got %d, want 409", got)
	}
	late := b.call(t, "POST", "/signup", `{"slug":"third"}`)
	if late.status != http.StatusTooManyRequests || late.header.Get("Retry-After") == "" {
		t.Errorf("one too many: got %d, retry after %q", late.status, late.header.Get("Retry-After"))
	}
	for forwarded, want := range map[string]int{"203.0.113.9": 201, "198.51.100.1, 203.0.113.8": 201, "not an address": 429} {
		slug := fmt.Sprint("s", len(forwarded))
		if got := b.call(t, "POST", "/signup", `{"slug":"`+slug+`"}`, "X-Forwarded-For: "+forwarded).status; got != want {
			t.Errorf("from %s: got %d, want %d", forwarded, got, want)
		}
	}
	closed := serve(t, m, func(o *server.Options) { o.Signup = false })
	if got := closed.call(t, "POST", "/signup", `{"slug":"late"}`).status; got != http.StatusForbidden {
		t.Errorf("closed: got %d, want 403", got)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := withCell(t)
	for _, slug := range []string{"kept", "due"} {
		one, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: slug, Cell: "c1"})
		if err == nil {
			err = m.DeleteTenant(t.Context(), one.ID)
		}
		if err == nil && slug == "due" {
			err = m.HurryDeletion(t.Context(), one.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b := serve(t, m, nil)
	b.call(t, "GET", "/v1/cells", "")
	b.call(t, "BREW", "/v1/cells", "")
	b.call(t, "GET", "/v1/table/changes?since=0&router=r1", "")
	b.call(t, "GET", "/v1/table/changes?since=90&router=r2", "") // of the record before it was restored
	problems, err := testutil.GatherAndLint(b.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: got %v, %v", problems, err)
	}
	want := `
# HELP directory_cells Cells that are not retired, by state and health.
# TYPE directory_cells gauge
directory_cells{healthy="true",state="ready"} 1
# HELP directory_deletions_waiting Deleted tenants that cells have yet to purge: in their grace, or due.
# TYPE directory_deletions_waiting gauge
directory_deletions_waiting{due="false"} 1
directory_deletions_waiting{due="true"} 1
# HELP directory_http_requests_total Requests answered.
# TYPE directory_http_requests_total counter
directory_http_requests_total{code="200",method="GET",route="/v1/cells"} 1
directory_http_requests_total{code="200",method="GET",route="/v1/table/changes"} 1
directory_http_requests_total{code="405",method="other",route="/v1/cells"} 1
directory_http_requests_total{code="410",method="GET",route="/v1/table/changes"} 1
# HELP directory_routers Routers by what they serve: the newest version (current), an older one (lagging), or unknown because silent.
# TYPE directory_routers gauge
directory_routers{status="current"} 0
directory_routers{status="lagging"} 1
directory_routers{status="silent"} 0
# HELP directory_table_lifted_total Times that a router served a newer table than the record's, whose version was lifted above it: the record was restored.
# TYPE directory_table_lifted_total counter
directory_table_lifted_total 1
# HELP directory_table_version Newest version of the table.
# TYPE directory_table_version gauge
directory_table_version 1090
# HELP directory_table_watermark Newest version that every live router serves.
# TYPE directory_table_watermark gauge
directory_table_watermark 0
`
	names := []string{
		"directory_cells", "directory_deletions_waiting", "directory_http_requests_total", "directory_routers", "directory_table_lifted_total",
		"directory_table_version", "directory_table_watermark",
	}
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestNewNeedsAllItsParts(t *testing.T) {
	t.Parallel()
	keys, err := token.ParseKeys(token.NewKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	m, reg := directorytest.NewMemory(), prometheus.NewRegistry()
	for _, o := range []server.Options{{Keys: keys, Registry: reg}, {Directory: m, Registry: reg}, {Directory: m, Keys: keys}} {
		if _, err := server.New(o); err == nil {
			t.Errorf("%+v: got nil, want an error", o)
		}
	}
}
