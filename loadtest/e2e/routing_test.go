package e2e

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/loadtest"
)

const baseDomain = ".cellway.localhost"

// sources are requests that name a tenant in each way that there is but the token.
func sources(tenant *loadtest.Tenant, host string) map[string]loadtest.Request {
	const path = "/v1/projects"
	return map[string]loadtest.Request{
		"host":        {Path: path, Host: tenant.Slug + baseDomain},
		"host, port":  {Path: path, Host: tenant.Slug + baseDomain + ":8080"},
		"host, case":  {Path: path, Host: upper(tenant.Slug) + baseDomain},
		"custom host": {Path: path, Host: host},
		"path":        {Path: "/t/" + tenant.Slug + path},
		"header":      {Path: path, Header: http.Header{"X-Tenant": {tenant.Slug}}},
		"cookie":      {Path: path, Header: http.Header{"Cookie": {"theme=dark; tenant=" + tenant.Slug}}},
	}
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 32
		}
	}
	return string(b)
}

// TestEachSourceNamesTheTenant: the token alone routes; with a token every other
// source may say the same; where the router lets people in without one, each of
// them routes by itself.
func TestEachSourceNamesTheTenant(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	open := w.newEdge(t, w.State().Directory.URL, filepath.Join(t.TempDir(), "table"), "ROUTER_AUTH=optional").start()
	for n := range 2 {
		host := slug("www") + ".example.com"
		tenant := w.tenant(t, w.cell(n+1), host)
		mark := "project of " + tenant.Slug
		project(t, tenant, mark)
		seen := func(t *testing.T, a loadtest.Answer) {
			t.Helper()
			if a.Status != http.StatusOK || !mentions(a, mark) {
				t.Errorf("got %s, want the projects of %s", a, tenant.Slug)
			}
		}
		seen(t, ask(t, tenant, loadtest.Request{Path: "/v1/projects"}))
		seen(t, ask(t, tenant, loadtest.Request{Path: "/v1%2Fprojects"})) // the same for router and cell
		for name, r := range sources(tenant, host) {
			t.Run(string(tenant.Cell())+"/"+name, func(t *testing.T) {
				seen(t, ask(t, tenant, r))
				until(t, "the open router to know the tenant", func() bool { return open.ask(r).Status != http.StatusNotFound })
				seen(t, open.ask(r))
				bare, err := w.ep.Do(within(t, patience), r)
				if err != nil {
					t.Fatal(err)
				}
				wantProblem(t, bare, problem.Unauthenticated)
			})
		}
	}
}

// TestSourcesThatDisagree: of any two sources that name different tenants the
// request is refused, whichever they are.
func TestSourcesThatDisagree(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	hostA, hostB := slug("a")+".example.org", slug("b")+".example.org"
	a, b := w.tenant(t, w.cell(1), hostA), w.tenant(t, w.cell(2), hostB)
	before := events(t, a) + events(t, b)
	ofA, ofB := sources(a, hostA), sources(b, hostB)
	for x, one := range ofA {
		for y, two := range ofB {
			if x == y || isHost(x) && isHost(y) {
				continue
			}
			r := merge(one, two)
			r.Method, r.Body = http.MethodPost, map[string]string{"name": "nobody's"}
			for _, who := range []*loadtest.Tenant{a, b} {
				answer := ask(t, who, r)
				if problem.KindOf(answer.Problem()) != problem.TenantConflict {
					t.Errorf("%s and %s: got %s, want a conflict", x, y, answer)
				}
			}
		}
	}
	if after := events(t, a) + events(t, b); after != before {
		t.Errorf("refused requests wrote %d events", after-before)
	}
}

func isHost(source string) bool { return source[:4] == "host" || source == "custom host" }

// merge is a request with the sources of both.
func merge(a, b loadtest.Request) loadtest.Request {
	if b.Host != "" {
		a.Host = b.Host
	}
	if len(b.Path) > len(a.Path) {
		a.Path = b.Path // the one with a prefix
	}
	head := http.Header{}
	for _, h := range []http.Header{a.Header, b.Header} {
		for k, v := range h {
			head[k] = v
		}
	}
	a.Header = head
	return a
}

// TestReservedHeaders: what only a router may say is refused from outside, in
// every spelling, and not quietly dropped.
func TestReservedHeaders(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(1))
	for _, name := range []string{"Cell-Assertion", "cell-assertion", "CELL_ASSERTION", "Cell_Tenant", "cell-", "Cell-Epoch"} {
		a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Header: http.Header{name: {"x"}}})
		if problem.KindOf(a.Problem()) != problem.ReservedHeader {
			t.Errorf("%s: got %s, want it refused", name, a)
		}
	}
}

// TestTokensThatDoNotCount: a token routes only when its signature is verified.
func TestTokensThatDoNotCount(t *testing.T) {
	t.Parallel()
	w := calm.get(t)
	tenant := w.tenant(t, w.cell(1))
	good := tenant.Token
	for name, bad := range map[string]string{
		"garbage": "cwt1.k1.x.y", "cut": good[:len(good)-2], "longer": good + "A", "operator's": w.State().OperatorToken,
	} {
		a := ask(t, tenant, loadtest.Request{Path: "/v1/projects", Token: bad})
		if got := a.Status; got != http.StatusUnauthorized && got != http.StatusForbidden {
			t.Errorf("%s token: got %s, want it refused", name, a)
		}
	}
}
