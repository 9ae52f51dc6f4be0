package router_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
)

// A victim is a cell that says what must never reach a cell while only acme's
// requests are sent: another tenant's assertion, a second one, any other name of
// ours, another spelling of the tenant's header.
type victim struct {
	keys token.Keys
	mu   sync.Mutex
	bad  []string
	seen int
}

// ServeHTTP implements http.Handler.
func (c *victim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the trailer comes behind it
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen++
	values := r.Header[token.AssertionHeader]
	if len(values) != 1 {
		c.bad = append(c.bad, fmt.Sprintf("%d assertions", len(values)))
		return
	}
	if left := r.Header[token.TimeLeftHeader]; len(left) != 1 || len(left[0]) < len("1000") {
		c.bad = append(c.bad, fmt.Sprintf("time left %q", left))
	}
	if a, err := c.keys.CheckAssertion(values[0], "c1", time.Now()); err != nil || a.Tenant != 1 {
		c.bad = append(c.bad, fmt.Sprintf("an assertion of tenant %d, %v", a.Tenant, err))
	}
	for _, h := range []http.Header{r.Header, r.Trailer} {
		for name := range h {
			if identify.Reserved(name) && name != token.AssertionHeader && name != token.TimeLeftHeader || name != identify.Header && identify.SameName(name, identify.Header) {
				c.bad = append(c.bad, "header "+name)
			}
		}
	}
	if len(r.Trailer) > 0 {
		c.bad = append(c.bad, fmt.Sprintf("trailer %v", r.Trailer))
	}
	// Neither a name without a dot nor an address is anybody's: there the token alone says who it is.
	host, err := identify.CanonicalHost(r.Host)
	if _, noAddress := netip.ParseAddr(host); err != nil || strings.Contains(host, ".") && noAddress != nil && host != "acme."+base {
		c.bad = append(c.bad, "host "+r.Host)
	}
}

func (c *victim) found() (seen int, bad []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bad, c.bad = c.bad, nil
	return c.seen, bad
}

// respelled is a name in another spelling that some servers take for the same.
func respelled(rng *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case c == '-' && rng.IntN(2) == 0:
			b[i] = '_'
		case c != '-' && rng.IntN(2) == 0:
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// A spoof makes one request that tries to be somebody else's. name is a name of
// ours in some spelling, and value what a router would say of tenant 2.
type spoof func(name, value string) string

// spoofs are the places where a name, a host or a path can say more than it should.
func spoofs(auth string) []spoof {
	const host = "Host: acme." + base + "\r\n"
	get := func(fields string) string { return "GET /v1/x HTTP/1.1\r\n" + host + auth + fields + "\r\n" }
	post := func(fields, trailer string) string {
		return "POST /v1/x HTTP/1.1\r\n" + host + auth + "Transfer-Encoding: chunked\r\n" + fields + "\r\n3\r\nabc\r\n0\r\n" + trailer + "\r\n"
	}
	to := func(target, host string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + auth + "\r\n"
	}
	all := []spoof{
		func(n, v string) string { return get(n + ": " + v + "\r\n") },
		func(n, v string) string { return get(n + ": " + v + "\r\n" + n + ": x\r\n") },
		func(n, v string) string { return get(n + ":" + v + "\r\nX-Tenant: bolt\r\n") },
		func(n, v string) string { return get(n + " : " + v + "\r\n") },
		func(n, v string) string { return get(" " + n + ": " + v + "\r\n") },
		func(n, v string) string { return get("X: y\r\n " + n + ": " + v + "\r\n") },
		func(n, v string) string { return get("X: y\n" + n + ": " + v + "\r\n") },
		func(n, v string) string { return get("X: y\r" + n + ": " + v + "\r\n") },
		func(n, v string) string { return get(n + "\x00: " + v + "\r\n") },
		func(n, v string) string { return get(n + "\t: " + v + "\r\n") },
		func(n, _ string) string { return get("Connection: " + n + "\r\n") },
		func(n, v string) string { return get("Connection: close, " + n + "\r\n" + n + ": " + v + "\r\n") },
		func(n, _ string) string { return get("Connection: keep-alive\r\nConnection: x,\t" + n + " \r\n") },
		func(n, _ string) string { return get("Proxy-Connection: " + n + "\r\n") },
		func(n, _ string) string { return get("Keep-Alive: " + n + "=1\r\n") },
		func(n, _ string) string { return get("TE: trailers, " + n + ";q=0.5\r\n") },
		func(n, v string) string { return post("Trailer: "+n+"\r\n", n+": "+v+"\r\n") },
		func(n, v string) string { return post("", n+": "+v+"\r\n") },
		func(n, v string) string { return post("Trailer: X-Sum, "+n+"\r\n", "X-Sum: 1\r\n"+n+": "+v+"\r\n") },
		func(n, v string) string { return post("", "X-Tenant: bolt\r\nHost: bolt."+base+"\r\n"+n+": "+v+"\r\n") },
		func(n, v string) string {
			return "POST /v1/x HTTP/1.1\r\n" + host + auth + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n" + host + n + ": " + v + "\r\n\r\n"
		},
		func(n, v string) string {
			return "POST /v1/x HTTP/1.1\r\n" + host + auth + "Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + n + ": " + v + "\r\n\r\n"
		},
		func(n, v string) string {
			return "GET /v1/x HTTP/1.1\r\n" + host + auth + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n" + n + ": " + v + "\r\n\r\n"
		},
		func(n, v string) string { return get(":authority: bolt." + base + "\r\n" + n + ": " + v + "\r\n") },
		func(n, v string) string {
			return get("X-Forwarded-Host: bolt." + base + "\r\nForwarded: host=bolt." + base + "\r\n" + n + ": " + v + "\r\n")
		},
		func(_, _ string) string {
			return get("X-Forwarded-Host: bolt." + base + "\r\nX-Original-Url: /t/bolt/\r\nX-Rewrite-Url: /t/bolt/\r\nX-Host: bolt." + base + "\r\n")
		},
		func(_, _ string) string { return get("X-Tenant: acme\r\nX-Tenant: bolt\r\n") },
		func(_, _ string) string { return get("Cookie: tenant=acme; tenant=bolt\r\n") },
		func(_, _ string) string { return get("Cookie: tenant=bolt\r\n") },
		func(_, _ string) string { return get("Host: bolt." + base + "\r\n") },
	}
	for _, h := range []string{
		"bolt." + base, "acme." + base + "@bolt." + base, "bolt." + base + "#acme." + base, "acme." + base + ":80@bolt." + base, "bolt." + base + ".",
		"acme." + base + ", bolt." + base, "acme." + base + " bolt." + base, "[::1%25bolt]", "acme%2e" + base, "bolt." + base + "%00acme." + base, "b\xc3\xb6lt." + base,
		"acme." + base + "\x00", "xn--blt-sna." + base, "bolt", "", "bolt.acme." + base, "BOLT." + strings.ToUpper(base) + ".:443", "acme." + base + ":bolt",
	} {
		all = append(all, func(_, _ string) string { return to("/v1/x", h) },
			func(n, v string) string {
				return "GET /v1/x HTTP/1.1\r\nHost: " + h + "\r\n" + auth + n + ": " + v + "\r\n\r\n"
			},
			func(_, _ string) string { return to("http://"+h+"/v1/x", "acme."+base) })
	}
	for _, p := range []string{
		"/t/bolt", "/t/bolt/v1/x", "/t/acme/../bolt/v1/x", "/t/acme/%2e%2e/bolt/v1/x", "/t/acme/%2E%2E/bolt", "//t/bolt/x", "/%74/bolt/x", "/t%2fbolt/x",
		"/t/%62olt/x", "/t\\bolt\\x", "/t/acme%00bolt/x", "/t/acme%2f..%2fbolt/x", "/t/acme/..%2fbolt/x", "/./t/bolt/x", "/t//bolt/x", "/t/bolt;acme/x", "/t/acme\t/../bolt",
	} {
		all = append(all, func(_, _ string) string { return to(p, "acme."+base) })
	}
	return all
}

// TestNobodySpeaksForAnother sends more than 10,000 requests that try to be
// somebody else's, as bytes, with acme's valid token: what a cell sees is acme's
// and said by the router alone, or nothing (X7, X12, X15).
func TestNobodySpeaksForAnother(t *testing.T) {
	t.Parallel()
	cell := &victim{}
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other tenant's cell was reached") })
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": never}, func(o *router.Options, _ *pool.Limits) { o.AuthRequired = true })
	cell.keys = w.assertion.For(token.OfCell("c1"))
	assertion, err := cell.keys.Assert(token.Assertion{Tenant: 2, Cell: "c1", Epoch: 1, Window: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	all := spoofs("Authorization: " + w.token(1) + "\r\n")
	rng := rand.New(rand.NewPCG(7, 7))
	names := []string{"Cell-Assertion", "Cell-Tenant", "Cell-Epoch", "Cell-Id", token.TimeLeftHeader, "X-Tenant", "cell-"}
	values := []string{assertion, "2", "bolt", "", assertion + ", " + assertion, "\x7f"}
	c := &attacker{tb: t, addr: w.addr}
	defer c.close()
	const variants = 10_500
	for i := range variants {
		raw := all[i%len(all)](respelled(rng, names[rng.IntN(len(names))]), values[rng.IntN(len(values))])
		before, _ := cell.found()
		status := c.send(raw)
		after, bad := cell.found()
		if len(bad) > 0 {
			t.Fatalf("the cell saw %q of %q", bad, raw)
		}
		if after == before && (status < 400 || status >= 500) {
			t.Fatalf("got %d although no cell was asked, of %q", status, raw)
		}
	}
	t.Logf("%d variants, of which %d reached acme's cell as acme's", variants, cell.seen)
}

// An attacker sends requests as bytes, on one connection as long as it lasts.
type attacker struct {
	tb   testing.TB
	addr string
	conn net.Conn
	from *bufio.Reader
}

func (c *attacker) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// send is the status of the answer to raw. After anything but a plain success the
// connection is given up: what else of raw was taken for a request is then gone too.
func (c *attacker) send(raw string) int {
	c.tb.Helper()
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr) //nolint:noctx // a test's connection to its own machine
		if err != nil {
			c.tb.Fatal(err)
		}
		c.conn, c.from = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c.conn, raw); err != nil {
		c.tb.Fatal(err)
	}
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		c.tb.Fatalf("no answer to %q: %v", raw, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode >= 400 || resp.Close || c.from.Buffered() > 0 {
		c.close()
	}
	return resp.StatusCode
}
