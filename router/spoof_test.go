package router_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
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
// ours, another spelling of the tenant's header, another tenant's slug.
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
	slugs := slices.Clone(r.Header[identify.Header])
	for _, cookie := range r.CookiesNamed(identify.Cookie) {
		slugs = append(slugs, cookie.Value)
	}
	if rest, named := strings.CutPrefix(path.Clean(r.URL.Path), identify.PathPrefix); named {
		slug, _, _ := strings.Cut(rest, "/")
		slugs = append(slugs, slug)
	}
	for _, slug := range slugs {
		if slug != "acme" {
			c.bad = append(c.bad, "slug "+slug)
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

// attack sends requests that are drawn until so many different ones were sent. It fails where
// the cell has seen what it never must, and where one neither reached it nor was refused. send
// is the status of the answer, 0 where the stream of the request was ended instead.
func attack[V string | framed](t *testing.T, cell *victim, variants int, drawn func(n int) V, send func(V) (status int)) {
	t.Helper()
	sent, draws, reached := make(map[string]bool, variants), 0, 0
	for ; len(sent) < variants; draws++ {
		if draws == 4*variants {
			t.Fatalf("only %d of %d draws are different, want %d", len(sent), draws, variants)
		}
		v := drawn(draws)
		text := fmt.Sprintf("%q", v)
		if sent[text] {
			continue
		}
		sent[text] = true
		status, before := send(v), reached
		var bad []string
		if reached, bad = cell.found(); len(bad) > 0 {
			t.Fatalf("the cell saw %q of %s", bad, text)
		}
		if reached == before && status != 0 && (status < 400 || status >= 500) {
			t.Fatalf("got %d although no cell was asked, of %s", status, text)
		}
	}
	if reached == 0 || reached == variants {
		t.Errorf("%d of %d reached the cell: they show nothing", reached, variants)
	}
	t.Logf("%d different variants of %d draws, of which %d reached acme's cell as acme's", len(sent), draws, reached)
}

// spoofed is c with w's keys, and what is drawn for it.
func (c *victim) spoofed(w *world) *draw {
	w.tb.Helper()
	c.keys = w.assertion.For(token.OfCell("c1"))
	assertion, err := c.keys.Assert(token.Assertion{Tenant: 2, Cell: "c1", Epoch: 1, Window: time.Now().Unix()})
	if err != nil {
		w.tb.Fatal(err)
	}
	return &draw{rng: rand.New(rand.NewPCG(7, 7)), bearer: w.token(1), assertion: assertion}
}

// unreached is a cell that nobody may ask.
func unreached(t *testing.T) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other tenant's cell was reached") })
}

// TestNobodySpeaksForAnother sends 10,000 different requests, and other ones on the other engines, that try
// to be somebody else's, as bytes, with acme's valid token: what a cell sees is acme's and said by
// the router alone, or nothing (X7, X12, X15).
func TestNobodySpeaksForAnother(t *testing.T) {
	t.Parallel()
	cell := &victim{}
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": cell, "c2": unreached(t)}, func(o *router.Options, _ *pool.Limits) { o.AuthRequired = true })
	d, c, variants := cell.spoofed(w), &attacker{tb: t, addr: w.addr}, 10_000
	defer c.close()
	if engine != "loop" { // what routers run on Linux by default
		variants = 2_500
		d.rng = rand.New(rand.NewPCG(7, uint64(engine[0]))) // others
	}
	attack(t, cell, variants, func(n int) string { return spoofs[n%len(spoofs)](d) }, c.send)
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
