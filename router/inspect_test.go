package router_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/guard"
	"github.com/cellway/cellway/router/pool"
)

const apiOfTest = `
openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /v1/projects:
    get:
      parameters: [{name: limit, in: query, schema: {type: integer, maximum: 200}}]
      responses: {default: {description: d}}
    post:
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [name], properties: {name: {type: string}}}}}}
      responses: {default: {description: d}}
  /v1/keyed:
    post:
      parameters: [{name: Idempotency-Key, in: header, required: true, schema: {type: string}}]
      responses: {default: {description: d}}
  /v1/loose:
    post:
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [name]}}}}
      responses: {default: {description: d}}
`

// An inspected world counts what its cell is asked.
type inspected struct {
	*world
	asked   atomic.Int32
	metrics *prometheus.Registry
}

func inspectedOn(t testing.TB, engine, policy string, more ...func(*router.Options)) *inspected {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"api.yaml": apiOfTest, "policy.yaml": policy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := guard.Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	in := &inspected{metrics: prometheus.NewRegistry()}
	g := guard.New(in.metrics)
	if err := g.Use(p); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Watch(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	cell := named("c1")
	in.world = newWorldOn(t, engine, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.asked.Add(1)
		cell.ServeHTTP(w, r)
	})}, func(o *router.Options, _ *pool.Limits) {
		o.Guard = g
		for _, change := range more {
			change(o)
		}
	})
	return in
}

// count is a counter's value where its outcome is this one.
func (in *inspected) count(name, outcome string) (sum float64) {
	in.tb.Helper()
	all, err := in.metrics.Gather()
	if err != nil {
		in.tb.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == name && l.GetValue() == outcome {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// TestContractAtTheEdge: what is not in the contract gets its problem and no cell,
// where that is asked for; elsewhere, and where it is only to be seen, it goes on.
func TestContractAtTheEdge(t *testing.T) {
	t.Parallel()
	const host = "acme." + base
	for _, engine := range engines {
		in := inspectedOn(t, engine, `
contract: {file: api.yaml, mode: block}
waf: {mode: off}
routes:
  - {name: write, prefix: /v1/projects, methods: [POST], inspect_body: 100}
  - {name: seen, prefix: /v1/seen, contract: detect}
  - {name: free, prefix: /v1/free, contract: off}`)
		for _, tt := range []struct {
			method, path, body, coding string
			status                     int
			code                       problem.Kind
			pointer                    string
		}{
			{"GET", "/v1/projects?limit=5", "", "", 200, "", ""},
			{"GET", "/t/acme/v1/projects?limit=5", "", "", 200, "", ""},
			{"GET", "/v1/projects?limit=500", "", "", 400, problem.Invalid, "query/limit"},
			{"GET", "/v1/nothing", "", "", 404, problem.NotFound, "path"},
			{"DELETE", "/v1/projects", "", "", 405, problem.MethodNotAllowed, "method"},
			{"POST", "/v1/projects", `{"name":"moon"}`, "", 200, "", ""},
			{"POST", "/v1/projects", `{"name":7}`, "", 400, problem.Invalid, "/name"},
			{"POST", "/v1/projects", `{"name":"` + strings.Repeat("n", 100) + `"}`, "", 413, problem.TooLarge, ""},
			{"POST", "/v1/projects", `{"name":"moon"}`, "gzip", 400, problem.Invalid, "header/Content-Encoding"},
			{"POST", "/v1/loose", `[]`, "", 200, "", ""},
			{"GET", "/v1/seen", "", "", 200, "", ""},
			{"GET", "/v1/free", "", "", 200, "", ""},
		} {
			before := in.asked.Load()
			headers := []string{"Content-Type", "application/json"}
			if tt.coding != "" {
				headers = append(headers, "Content-Encoding", tt.coding)
			}
			a := in.do(tt.method, host, tt.path, tt.body, headers...)
			if tt.status == 200 {
				if a.StatusCode != 200 || !strings.HasSuffix(a.body, tt.path+" "+tt.body) || in.asked.Load() != before+1 {
					t.Errorf("%s: %s %s: got %d %s", engine, tt.method, tt.path, a.StatusCode, a.body)
				}
				continue
			}
			in.want(a, tt.status, tt.code)
			if allow := a.Header.Get("Allow"); tt.status == 405 && allow != "GET, POST" {
				t.Errorf("%s: %s %s: Allow is %q", engine, tt.method, tt.path, allow)
			}
			var doc struct{ Errors []problem.Field }
			if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
				t.Error(err)
			}
			if tt.pointer != "" && (len(doc.Errors) == 0 || doc.Errors[0].Pointer != tt.pointer) || in.asked.Load() != before {
				t.Errorf("%s: %s %s: got %s, cell asked %d times", engine, tt.method, tt.path, a.body, in.asked.Load()-before)
			}
		}
		if err := testutil.GatherAndCompare(in.metrics, strings.NewReader(`
# HELP router_contract_violations_total Requests that are not as the contract has it, by part and by what became of them (refused, passed).
# TYPE router_contract_violations_total counter
router_contract_violations_total{outcome="passed",part="path"} 1
router_contract_violations_total{outcome="refused",part="body"} 1
router_contract_violations_total{outcome="refused",part="method"} 1
router_contract_violations_total{outcome="refused",part="path"} 1
router_contract_violations_total{outcome="refused",part="query"} 1
`), "router_contract_violations_total"); err != nil {
			t.Errorf("%s: %v", engine, err)
		}
	}
}

// TestWhatConnectionNamesIsNotLookedAt: the cell does not get it either.
func TestWhatConnectionNamesIsNotLookedAt(t *testing.T) {
	t.Parallel()
	for _, engine := range engines {
		in := inspectedOn(t, engine, `
contract: {file: api.yaml, mode: block}
waf: {mode: off}
routes:
  - {name: write, prefix: /v1/projects, methods: [POST], inspect_body: 100}`)
		for _, tt := range []struct {
			path, body, connection string
			status                 int
		}{
			{"/v1/keyed", "", "", 200},
			{"/v1/keyed", "", "x-other, Keep-Alive", 200},
			{"/v1/keyed", "", "x-other, idempotency-key", 400},
			{"/v1/projects", `{"name":"moon"}`, "", 200},
			{"/v1/projects", `{"name":"moon"}`, "Content-Type", 400},
		} {
			before := in.asked.Load()
			headers := []string{"Content-Type", "application/json", "Idempotency-Key", "k"}
			if tt.connection != "" {
				headers = append(headers, "Connection", tt.connection)
			}
			a := in.do("POST", "acme."+base, tt.path, tt.body, headers...)
			if asked := in.asked.Load() - before; a.StatusCode != tt.status || (asked == 1) != (tt.status == 200) {
				t.Errorf("%s: %s, Connection %q: got %d %s, cell asked %d times", engine, tt.path, tt.connection, a.StatusCode, a.body, asked)
			}
		}
	}
}

// TestWAFLooksAtSignups: what the rules deny does not get to the directory where
// they block, in the body too where that is asked for; where the policy says
// nothing they detect. The directory gets the others as they were sent.
func TestWAFLooksAtSignups(t *testing.T) {
	t.Parallel()
	const (
		attack = `{"slug":"x","name":"1' UNION SELECT password FROM users--"}`
		query  = "/signup?q=1%27%20OR%20%271%27=%271%27--"
		clean  = `{"slug":"x","name":"Moon"}`
	)
	type signup struct {
		path, body string
		status     int
	}
	for policy, asks := range map[string][]signup{
		"signup: {waf: block, inspect_body: 1000}": {
			{"/signup", attack, 403}, {"/signup", clean, 200}, {query, clean, 403}, {"/signup", strings.Repeat(clean, 100), 413},
		},
		"signup: {waf: block}":         {{"/signup", attack, 200}, {query, clean, 403}},
		"signup: {waf: off}":           {{query, attack, 200}},
		"signup: {inspect_body: 1000}": {{"/signup", attack, 200}},
		"{signup: {waf: block, inspect_body: 1000}, waf: {exclude: [{tags: [attack-sqli], routes: [signup]}]}}": {{"/signup", attack, 200}},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			dir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(w, r.Body)
			}))
			t.Cleanup(dir.Close)
			in := inspectedOn(t, "h1", policy, func(o *router.Options) { o.Directory = parseURL(t, dir.URL) })
			for _, tt := range asks {
				before := asked.Load()
				a := in.do("POST", base, tt.path, tt.body, "Content-Type", "application/json", "Accept", "*/*")
				passed := tt.status == 200
				if a.StatusCode != tt.status || passed != (a.body == tt.body) || passed != (asked.Load() == before+1) {
					t.Errorf("%s %s: got %d %s, the directory was asked %d times", tt.path, tt.body, a.StatusCode, a.body, asked.Load()-before)
				}
			}
			if policy == "signup: {inspect_body: 1000}" {
				eventually(t, "the finding", func() bool { return in.count("router_waf_requests_total", "passed") == 1 })
			}
		})
	}
}

// TestWAFAtTheEdge: where rules block, an attack gets 403 and no cell; where they
// detect, it goes on and is counted. Bodies are looked into where a route asks.
func TestWAFAtTheEdge(t *testing.T) {
	t.Parallel()
	const (
		host   = "acme." + base
		query  = "?q=1%27%20OR%20%271%27=%271%27--"
		inBody = `{"name":"1' UNION SELECT password FROM users--"}`
	)
	for _, engine := range engines {
		in := inspectedOn(t, engine, `
routes:
  - {name: guarded, prefix: /v1/guarded, waf: block}
  - {name: deep, prefix: /v1/deep, waf: block, inspect_body: 1000}
  - {name: free, prefix: /v1/free, waf: off}
waf: {exclude: [{tags: [attack-sqli], tenants: [2]}]}`)
		bearer := in.token(1)
		for _, tt := range []struct {
			method, path, body string
			passes             bool
		}{
			{"GET", "/v1/guarded?q=moon", "", true},
			{"GET", "/v1/guarded" + query, "", false},
			{"POST", "/v1/guarded", inBody, true},
			{"POST", "/v1/deep", inBody, false},
			{"POST", "/v1/deep", `{"name":"moon"}`, true},
			{"GET", "/v1/free" + query, "", true},
			{"GET", "/v1/elsewhere" + query, "", true},
		} {
			before := in.asked.Load()
			a := in.do(tt.method, host, tt.path, tt.body, "Content-Type", "application/json", "Accept", "*/*", "Authorization", "Bearer "+bearer)
			if tt.passes {
				if a.StatusCode != 200 || in.asked.Load() != before+1 {
					t.Errorf("%s: %s %s: got %d %s", engine, tt.method, tt.path, a.StatusCode, a.body)
				}
				continue
			}
			in.want(a, 403, problem.Forbidden)
			if in.asked.Load() != before {
				t.Errorf("%s: %s %s reached the cell", engine, tt.method, tt.path)
			}
		}
		eventually(t, "the finding of what was let through", func() bool {
			return in.count("router_waf_requests_total", "passed") == 1
		})
		if strings.Contains(in.log.String(), bearer) || strings.Contains(in.log.String(), "UNION") {
			t.Errorf("%s: the log has what was sent:\n%s", engine, in.log)
		}
	}
}
