package router_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
)

// A source is a cell whose answer is a stream of what is sent into lines.
type source struct {
	name  string
	lines chan string
	open  atomic.Int32
}

func newSource(name string) *source { return &source{name: name, lines: make(chan string)} }

// ServeHTTP says the cell's name, then line after line, until the peer goes.
func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/stream" {
		fmt.Fprint(w, s.name)
		return
	}
	s.open.Add(1)
	defer s.open.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	rc := http.NewResponseController(w)
	for line := s.name; ; {
		fmt.Fprintln(w, line)
		if rc.Flush() != nil {
			return
		}
		select {
		case line = <-s.lines:
		case <-r.Context().Done():
			return
		}
	}
}

// A tap is a client's end of a stream.
type tap struct {
	tb    testing.TB
	resp  *http.Response
	lines *bufio.Scanner
}

func (w *world) tap(host string) *tap {
	w.tb.Helper()
	resp, err := w.client.Do(w.request(w.tb.Context(), "GET", host, "/stream", "", "Authorization", w.token(map[string]directory.TenantID{"acme." + base: 1, "bolt." + base: 2}[host])))
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		w.tb.Fatalf("open stream: got %d", resp.StatusCode)
	}
	return &tap{w.tb, resp, bufio.NewScanner(resp.Body)}
}

func (s *tap) want(line string) {
	s.tb.Helper()
	if !s.lines.Scan() || s.lines.Text() != line {
		s.tb.Fatalf("got %q, %v; want %q", s.lines.Text(), s.lines.Err(), line)
	}
}

func (s *tap) wantEnd() {
	s.tb.Helper()
	if s.lines.Scan() || s.lines.Err() != nil {
		s.tb.Errorf("got %q, %v; want an orderly end", s.lines.Text(), s.lines.Err())
	}
}

func (s *source) none(tb testing.TB) {
	tb.Helper()
	s.left(tb, 0)
}

// left waits until the cell has so many streams.
func (s *source) left(tb testing.TB, n int32) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("cell %s to have %d streams left", s.name, n), func() bool { return s.open.Load() == n })
}

const acme, bolt = "acme." + base, "bolt." + base

// streaming is a world whose cells are sources.
func streaming(t *testing.T, change func(*router.Options, *pool.Limits)) (w *world, c1, c2 *source) {
	t.Helper()
	c1, c2 = newSource("c1"), newSource("c2")
	return newWorld(t, map[directory.CellID]http.Handler{"c1": c1, "c2": c2}, change), c1, c2
}

// TestAStreamIsRelayedAsItComes: line by line, beyond the time that a request has,
// and beyond the server's own deadlines.
func TestAStreamIsRelayedAsItComes(t *testing.T) {
	t.Parallel()
	w, c1, _ := streaming(t, func(o *router.Options, _ *pool.Limits) { o.CellTimeout = 300 * time.Millisecond })
	server := w.newServer()
	switch s := server.(type) {
	case *http.Server:
		s.ReadTimeout, s.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	case *h1.Server:
		s.Whole, s.Idle = 300*time.Millisecond, 300*time.Millisecond
	}
	w.listen(server)
	s := w.tap(acme)
	s.want("c1")
	for began := time.Now(); time.Since(began) < time.Second; {
		c1.lines <- "line"
		s.want("line")
	}
	_ = s.resp.Body.Close()
	c1.none(t)
}

// TestStreamsFollowTheirTenant: a change of the placement ends the streams of that
// tenant, in good order and on both sides, and of no other.
func TestStreamsFollowTheirTenant(t *testing.T) {
	t.Parallel()
	w, c1, c2 := streaming(t, nil)
	a, b, other := w.tap(acme), w.tap(acme), w.tap(bolt)
	for s, want := range map[*tap]string{a: "c1", b: "c1", other: "c2"} {
		s.want(want)
	}
	w.placed(place(1, "c1", 1, directory.Cutover), "acme")
	c1.lines <- "still" // either of the two
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	for _, s := range []*tap{a, b} {
		for s.lines.Scan() {
			if got := s.lines.Text(); got != "still" {
				t.Errorf("got %q", got)
			}
		}
		if err := s.lines.Err(); err != nil {
			t.Errorf("got %v, want an orderly end", err)
		}
	}
	c1.none(t)
	again := w.tap(acme)
	again.want("c2")
	if n := c2.open.Load(); n != 2 {
		t.Errorf("c2 has %d streams, want 2", n)
	}
	w.placed(place(1, "c2", 2, directory.Suspended), "acme")
	again.wantEnd()
	c2.lines <- "more"
	other.want("more")
}

// TestAStreamIsOpenedThroughAHold: who asks during a cutover gets the new owner's.
func TestAStreamIsOpenedThroughAHold(t *testing.T) {
	t.Parallel()
	w, _, _ := streaming(t, nil)
	w.placed(place(1, "c1", 1, directory.Cutover), "acme")
	opened := make(chan *tap)
	go func() { opened <- w.tap(acme) }()
	eventually(t, "the request to be held", func() bool { return w.metric("router_held_requests") == 1 })
	w.placed(place(1, "c2", 2, directory.Active), "acme")
	s := <-opened
	s.want("c2")
}

// TestStreamsTakeNothingFromRequests: a cell's streams are bounded, also for one tenant,
// and apart from its requests.
func TestStreamsTakeNothingFromRequests(t *testing.T) {
	t.Parallel()
	w, _, _ := streaming(t, func(_ *router.Options, l *pool.Limits) { l.Requests, l.Streams = 1, 1 })
	w.tap(acme).want("c1")
	if a := w.do("GET", acme, "/", "", "Authorization", w.token(1)); a.StatusCode != http.StatusOK || a.body != "c1" {
		t.Errorf("request beside streams: got %d %q", a.StatusCode, a.body)
	}
	w.want(w.do("GET", acme, "/stream", "", "Authorization", w.token(1)), http.StatusTooManyRequests, problem.RateLimited)
	w.placed(place(3, "c1", 1, directory.Active), "cargo")
	w.want(w.do("GET", "cargo."+base, "/stream", "", "Authorization", w.token(3)), http.StatusServiceUnavailable, problem.CellUnavailable)
	w.tap(bolt).want("c2")
	if n := w.metric("router_streams_open"); n != 2 {
		t.Errorf("%v streams are open, want 2", n)
	}
	if n := w.metric("router_cell_probes_total"); n != 0 {
		t.Errorf("a cell was asked %v times whether it is there, which has just answered", n)
	}
}

// TestARouterThatStopsEndsItsStreams: their clients find another one.
func TestARouterThatStopsEndsItsStreams(t *testing.T) {
	t.Parallel()
	w, c1, _ := streaming(t, nil)
	s := w.tap(acme)
	s.want("c1")
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantEnd()
	c1.none(t)
}

// TestAStreamThatIsCutLooksCut: what a cell does not finish is not made to look whole.
func TestAStreamThatIsCutLooksCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintln(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})}, nil)
	s := w.tap(acme)
	s.want("half")
	if s.lines.Scan() || s.lines.Err() == nil {
		t.Error("a stream that was cut looks whole")
	}
}

// metric is a metric's sum over its label sets.
func (w *world) metric(name string) (sum float64) {
	w.tb.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// TestAStreamThatEndsWithItsLastBytesIsWhole: also for the client.
func TestAStreamThatEndsWithItsLastBytesIsWhole(t *testing.T) {
	t.Parallel()
	const lines = 1000 // too many for net/http to find out the length
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, strings.Repeat("line\n", lines))
	})}, nil)
	for range 20 { // whether end and bytes come together is up to the network
		s := w.tap(acme)
		for range lines {
			s.want("line")
		}
		s.wantEnd()
	}
}

// credentials are a ring that a router knows: of two API keys of acme's, at first.
type credentials struct {
	tb         testing.TB
	ring       token.Ring
	version    directory.Version
	key, other string // as a header has them
	record     directory.Key
}

// An expiring is a verifier of one bearer, which is acme's and is over within a second.
type expiring struct{}

// Verify implements identify.Verifier.
func (expiring) Verify(bearer, _, _ string, now time.Time) (identify.Bearer, error) {
	return identify.Bearer{Known: bearer == "theirs", Tenant: 1, Subject: "bob", Expires: now.Unix() + 1}, nil
}

// Recall implements identify.Verifier.
func (expiring) Recall(string, time.Time) (identify.Bearer, bool) { return identify.Bearer{}, false }

// credentialed is a world whose router knows them, and a bearer of somebody else's.
func credentialed(tb testing.TB, cells map[directory.CellID]http.Handler, now func() time.Time) (*world, *credentials) {
	tb.Helper()
	c := &credentials{tb: tb}
	key, record := token.NewAPIKey()
	other, second := token.NewAPIKey()
	record.Tenant, second.Tenant = 1, 1
	c.key, c.other, c.record = "Bearer "+key, "Bearer "+other, record
	c.change(directory.Credentials{Keys: []directory.Key{record, second}})
	return newWorld(tb, cells, func(o *router.Options, _ *pool.Limits) {
		o.Chain.Ring, o.Chain.Others, o.Chain.Now = &c.ring, expiring{}, now
	}), c
}

func (c *credentials) change(to directory.Credentials) {
	c.tb.Helper()
	to.Since, to.Version = c.version, c.version+1
	c.version++
	if err := c.ring.Apply(to); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *credentials) revokeKey() {
	c.tb.Helper()
	c.record.Revoked = true
	c.change(directory.Credentials{Keys: []directory.Key{c.record}})
}

// tapWith opens a stream of acme's with a credential.
func (w *world) tapWith(credential string) *tap {
	w.tb.Helper()
	resp, err := w.client.Do(w.request(w.tb.Context(), "GET", acme, "/stream", "", "Authorization", credential))
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		w.tb.Fatalf("open stream: got %d", resp.StatusCode)
	}
	return &tap{w.tb, resp, bufio.NewScanner(resp.Body)}
}

// TestStreamsEndWithTheirCredential: one whose key or token is revoked, or is over,
// ends in good order, and no other does.
func TestStreamsEndWithTheirCredential(t *testing.T) {
	t.Parallel()
	c1 := newSource("c1")
	w, c := credentialed(t, map[directory.CellID]http.Handler{"c1": c1}, nil)
	bearer := w.token(1)
	claims, ok := token.Inspect(strings.TrimPrefix(bearer, "Bearer "))
	if !ok {
		t.Fatal("this is no token")
	}
	byKey, byOther, byToken := w.tapWith(c.key), w.tapWith(c.other), w.tapWith(bearer)
	for _, s := range []*tap{byKey, byOther, byToken} {
		s.want("c1")
	}
	c.revokeKey()
	byKey.wantEnd()
	c.change(directory.Credentials{Tokens: []directory.RevokedToken{{ID: claims.ID, Tenant: 1, ExpiresAt: time.Unix(claims.ExpiresAt, 0)}}})
	byToken.wantEnd()
	c1.left(t, 1)
	c1.lines <- "more"
	byOther.want("more")
	if n := w.metric("router_streams_revoked_total"); n != 2 {
		t.Errorf("%v streams were counted, want 2", n)
	}
	if a := w.do("GET", acme, "/stream", "", "Authorization", c.key); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("who comes back with it: got %d", a.StatusCode)
	}
}

// TestStreamsEndWhenTheirCredentialExpires: a token, a key, and an issuer's token.
func TestStreamsEndWhenTheirCredentialExpires(t *testing.T) {
	t.Parallel()
	c1 := newSource("c1")
	now := time.Now().Truncate(time.Second).Add(time.Hour - 200*time.Millisecond) // as the router has it
	w, c := credentialed(t, map[directory.CellID]http.Handler{"c1": c1}, func() time.Time { return now })
	c.record.ExpiresAt = now.Add(time.Second)
	c.change(directory.Credentials{Keys: []directory.Key{c.record}})
	short, err := w.tokens.Issue(token.Claims{Kind: token.Tenant, Tenant: 1, Subject: "ann"}, now, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	stays := w.tapWith(c.other)
	stays.want("c1")
	for _, credential := range []string{"Bearer " + short, c.key, "Bearer theirs"} {
		s := w.tapWith(credential)
		s.want("c1")
		s.wantEnd()
	}
	c1.left(t, 1)
	c1.lines <- "more"
	stays.want("more")
}
