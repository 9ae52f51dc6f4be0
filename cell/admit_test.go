package cell_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/directory/token"
)

func TestOnlyARoutersWordComesIn(t *testing.T) {
	t.Parallel()
	h := start(t)
	now := time.Now()
	sign := func(k token.Keys, a token.Assertion) string {
		s, err := k.Assert(a)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := token.Assertion{Tenant: acme, Cell: cellID, Epoch: 1, Window: now.Unix()}
	other, old := good, good
	other.Cell = "c2"
	old.Window -= 60
	if got := decode[document](t, h.want(401, request{method: "GET", path: "/v1/projects", header: map[string]string{token.AssertionHeader: ""}})); got.Code != "unauthenticated" {
		t.Errorf("none: got code %q", got.Code)
	}
	for name, header := range map[string]string{
		"garbage": "v1.x.y", "another key's": sign(keys(t, "a"), good),
		"another cell's": sign(h.assertions, other), "expired": sign(h.assertions, old),
	} {
		q := request{method: "GET", path: "/v1/projects", header: map[string]string{token.AssertionHeader: header}}
		if got := decode[document](t, h.want(421, q)); got.Code != "assertion-refused" { // not 401: a client's token may be good
			t.Errorf("%s: got code %q", name, got.Code)
		}
		q.method = "HEAD"
		if got := h.want(421, q).header.Get(token.RefusalHeader); got != "assertion-refused" {
			t.Errorf("%s, to HEAD: got the kind %q", name, got)
		}
	}
	want := `
		# HELP cell_admission_rejected_total Requests turned away before their operation ran.
		# TYPE cell_admission_rejected_total counter
		cell_admission_rejected_total{reason="assertion"} 9
		cell_admission_rejected_total{reason="rate"} 0
		cell_admission_rejected_total{reason="stale_epoch"} 0
		cell_admission_rejected_total{reason="token"} 0
`
	if err := testutil.GatherAndCompare(h.registry, strings.NewReader(want), "cell_admission_rejected_total"); err != nil {
		t.Error(err)
	}
}

func TestABearerTokenMustBeTheTenants(t *testing.T) {
	t.Parallel()
	h := start(t)
	issue := func(k token.Keys, c token.Claims) string {
		c.Subject = "ada"
		s, err := k.Issue(c, time.Now(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + s
	}
	for _, tt := range []struct {
		name, header string
		want         int
	}{
		{"the tenant's", issue(h.tokens, token.Claims{Kind: token.Tenant, Tenant: acme}), 200},
		{"another tenant's", issue(h.tokens, token.Claims{Kind: token.Tenant, Tenant: bravo}), 421},
		{"an operator's", issue(h.tokens, token.Claims{Kind: token.Operator}), 421},
		{"of another key", issue(keys(t, "t"), token.Claims{Kind: token.Tenant, Tenant: acme}), 421},
		{"nobody's", "Bearer eyJhbGciOi.x.y", 401},
		{"another scheme", "Basic YTpi", 401},
		{"none", "", 200}, // the router let it through
	} {
		q := request{method: "GET", path: "/v1/projects", header: map[string]string{"Authorization": tt.header}}
		if got := h.send(q).status; got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	if log := h.log.String(); strings.Contains(log, "ada") || !strings.Contains(log, `"user_hash":"`) {
		t.Errorf("the log must know users by hash only:\n%s", log)
	}
}

func TestTheSlugInThePathIsTakenOff(t *testing.T) {
	t.Parallel()
	h := start(t)
	p := h.createProject(acme, "Moon")
	for path, want := range map[string]int{
		"/t/acme/v1/projects/" + p.ID:     200,
		"/t/whatever/v1/projects/" + p.ID: 200, // the assertion says who it is
		"/t/acme":                         404,
		"/t/acme/t/acme/v1/projects":      404,
		"/v1//projects":                   404,
		"/v1/projects/":                   404,
	} {
		if got := h.send(request{method: "GET", path: path}).status; got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	h := start(t)
	if got := decode[document](t, h.want(404, request{method: "GET", path: "/v2/x"})); got.Code != "not-found" {
		t.Errorf("unknown path: got %+v", got)
	}
	r := h.want(405, request{method: "PUT", path: "/v1/projects"})
	if got := r.header.Get("Allow"); got != "GET, POST" || decode[document](t, r).Code != "method-not-allowed" {
		t.Errorf("wrong method: Allow %q, %s", got, r.body)
	}
}

func TestABodyHasALimit(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.MaxBody = 64 })
	body := fmt.Sprintf(`{"name":%q}`, strings.Repeat("x", 100))
	if got := decode[document](t, h.want(413, request{method: "POST", path: "/v1/projects", body: body})); got.Code != "too-large" {
		t.Errorf("got %+v", got)
	}
}

func TestATenantHasARate(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *cell.Options) { o.RatePerMinute = 3 })
	list := request{method: "GET", path: "/v1/projects"}
	for range 3 {
		r := h.want(200, list)
		if got, want := r.header.Get("RateLimit-Policy"), `"default";q=3;w=60`; got != want {
			t.Errorf("RateLimit-Policy: got %q, want %q", got, want)
		}
	}
	r := h.want(429, list)
	if decode[document](t, r).Code != "rate-limited" || r.header.Get("Retry-After") == "" || !strings.HasPrefix(r.header.Get("RateLimit"), `"default";r=0;t=`) {
		t.Errorf("got %v\n%s", r.header, r.body)
	}
	list.tenant = bravo
	h.want(200, list) // a rate of its own
	for _, k := range redisKeys(t, h.redisURL) {
		if !strings.HasPrefix(k, "{t:101}:") && !strings.HasPrefix(k, "{t:102}:") {
			t.Errorf("key without its tenant: %q", k)
		}
	}
}
