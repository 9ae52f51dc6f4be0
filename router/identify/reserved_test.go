package identify

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cellway/cellway/infra/problem"
)

// ours is every name that outsiders may not use.
var ours = []string{"Cell-Assertion", "Cell-Id", "Cell-Tenant", "cell-"}

// spelling makes a random spelling of name that folds to it.
func spelling(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case c == '-' && rand.IntN(2) == 0:
			b[i] = '_'
		case c != '-' && rand.IntN(2) == 0:
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// TestSpoofsAreRefused sends 10,000 spellings of our names in every place where a
// name can stand, as bytes through net/http's parser, past which none may get.
func TestSpoofsAreRefused(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	places := []func(name string) string{
		func(n string) string { return n + ": v1.k.1.c1.1.1.x\r\n" },
		func(n string) string { return n + ":\r\n" },
		func(n string) string { return "Connection: close, " + n + "\r\n" },
		func(n string) string { return "Connection: " + n + "\r\n" },
		func(n string) string { return "Connection: keep-alive,\t" + n + " ,x\r\n" },
		func(n string) string { return "Transfer-Encoding: chunked\r\nTrailer: x, " + n + "\r\n" },
		func(n string) string { return "Transfer-Encoding: chunked\r\nTrailer: " + n + "\r\n" },
		func(n string) string { return "TE: trailers, " + n + ";q=0.5\r\n" },
		func(n string) string { return "Keep-Alive: " + n + "\r\n" },
		func(n string) string { return "Proxy-Connection: " + n + "\r\n" },
	}
	for i := range 10_000 {
		name := spelling(ours[rand.IntN(len(ours))])
		raw := "GET /t/acme/ HTTP/1.1\r\nHost: acme.cellway.localhost\r\n" + places[i%len(places)](name) + "\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			continue // refused by the parser: the server answers 400
		}
		if _, err := c.Identify(HeadOf(r), v); !errors.Is(err, problem.ReservedHeader) {
			t.Fatalf("got %v, want reserved-header for %q", err, raw)
		}
	}
}

func TestTenantHeaderInAnotherSpellingIsRefused(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	for _, header := range []string{
		"X_Tenant: acme", "x_tenant: acme", "Connection: x-tenant", "Connection: X_Tenant", "Trailer: x-tenant\r\nTransfer-Encoding: chunked",
	} {
		raw := "GET / HTTP/1.1\r\nHost: acme.cellway.localhost\r\n" + header + "\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			t.Fatalf("%q: %v", header, err)
		}
		if _, err := c.Identify(HeadOf(r), v); !errors.Is(err, problem.ReservedHeader) {
			t.Errorf("%q: got %v, want reserved-header", header, err)
		}
	}
}

func TestOtherHeadersPass(t *testing.T) {
	t.Parallel()
	c, v := world(t)
	r := get("acme.cellway.localhost", "/", "Cellular", "1", "X-Cell-Id", "1", "Cel", "1", "Connection", "keep-alive", "X-Tenants", "a")
	if _, err := c.Identify(HeadOf(r), v); err != nil {
		t.Error(err)
	}
}

// FuzzIdentify: no request makes it panic, and requests that say the same in
// other words get the same tenant.
func FuzzIdentify(f *testing.F) {
	f.Add("acme.cellway.localhost:80", "/t/acme/v1", "X-Tenant", "acme", "tenant=acme", "Bearer cwt1.k.x.y")
	f.Add("WWW.acme.com.", "/%74/acme", "Connection", "cell-assertion", `a=1; tenant="acme"`, "")
	f.Add("[::1]:8", "//t/acme/../bolt", "cell_Assertion", "x", "tenant", "Basic eA==")
	c, v := world(f)
	f.Fuzz(func(t *testing.T, host, path, name, value, cookie, auth string) {
		r := request(host, path, name, value, cookie, auth)
		if r == nil {
			return
		}
		got, err := c.Identify(HeadOf(r), v)
		if Reserved(name) && r.Header[http.CanonicalHeaderKey(name)] != nil && !errors.Is(err, problem.ReservedHeader) {
			t.Errorf("header %q passed with %v", name, err)
		}
		if err == nil && got.Source != "" && got.Entry.Tenant == 0 {
			t.Errorf("no error and no tenant: %+v", got)
		}
		same := r.Clone(t.Context())
		same.Host = respell(r.Host)
		for key, values := range same.Header {
			delete(same.Header, key)
			same.Header[http.CanonicalHeaderKey(strings.ToLower(key))] = values
		}
		again, err2 := c.Identify(HeadOf(same), v)
		if problem.KindOf(orElse(err, problem.Gone)) != problem.KindOf(orElse(err2, problem.Gone)) || got.Entry != again.Entry {
			t.Errorf("host %q: got %+v, %v; host %q: got %+v, %v", r.Host, got.Entry, err, same.Host, again.Entry, err2)
		}
	})
}

// request is the request with these parts as the server would read it, nil
// where it would refuse it.
func request(host, path, name, value, cookie, auth string) *http.Request {
	head := []string{"GET " + path + " HTTP/1.1", "Host: " + host, name + ": " + value, "Cookie: " + cookie, "Authorization: " + auth}
	if slices.ContainsFunc(head, func(s string) bool { return strings.ContainsAny(s, "\r\n") }) {
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.Join(head, "\r\n") + "\r\n\r\n")))
	if err != nil {
		return nil
	}
	return r
}

// respell writes a host another way that means the same: other case, a dot at
// the end of the name, a port.
func respell(host string) string {
	if strings.ContainsAny(host, "[]:") || host == "" || strings.HasSuffix(host, ".") || len(host) > 200 {
		return host
	}
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' {
			return c - 'a' + 'A'
		}
		return c
	}, host) + ".:443"
}
