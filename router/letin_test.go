package router_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
)

// A lateBody spoils what its request was let in by when it is first read: its client sends
// it when it was told to go on, and the router says so when it waits for it.
type lateBody struct {
	io.Reader
	spoil func()
}

// Read implements io.Reader.
func (b *lateBody) Read(p []byte) (int, error) {
	if b.spoil != nil {
		b.spoil()
		b.spoil = nil
	}
	return b.Reader.Read(p)
}

// Close implements io.Closer.
func (*lateBody) Close() error { return nil }

// spoilers are the ways in which a request that was let in may lose its right to be served.
var spoilers = map[string]struct {
	key    bool // it shows the key, else the token
	spoil  func(a *authWorld)
	status int
	code   problem.Kind
}{
	"nothing":       {spoil: func(*authWorld) {}, status: 200},
	"key revoked":   {key: true, spoil: (*authWorld).revokeKey, status: 401, code: problem.Unauthenticated},
	"token revoked": {spoil: (*authWorld).revokeToken, status: 401, code: problem.Unauthenticated},
	"token expired": {spoil: func(a *authWorld) { a.later.Store(int64(2 * time.Hour)) }, status: 401, code: problem.Unauthenticated},
	"suspended":     {spoil: func(a *authWorld) { a.placed(place(1, "c1", 1, directory.Suspended), "acme") }, status: 403, code: problem.TenantSuspended},
	"deleted":       {spoil: func(a *authWorld) { a.placed(place(1, "c1", 1, directory.Deleted), "acme") }, status: 404, code: problem.TenantNotFound},
}

// lateWorld is one on an engine, or for HTTP/2, whose clients wait until they are told to
// go on with a body.
func lateWorld(t *testing.T, on string, cell http.HandlerFunc) *authWorld {
	t.Helper()
	engine := on
	if on == "HTTP/2" {
		engine = "h1"
	}
	a := newAuthWorldOn(t, engine, map[directory.CellID]http.Handler{"c1": cell, "c2": cell}, nil)
	if on == "HTTP/2" {
		a.listen(a.router.NewH2C(front.NewMetrics(a.registry)))
		a.client = overH2C(t)
	}
	a.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
	return a
}

// TestWhoIsLetInIsAskedAgainWhenItsBodyHasCome: a body may take a minute to come. What is
// revoked, over or suspended by then reaches no cell.
func TestWhoIsLetInIsAskedAgainWhenItsBodyHasCome(t *testing.T) {
	t.Parallel()
	for name, tt := range spoilers {
		for _, on := range append(engines, "HTTP/2") {
			t.Run(name+", "+on, func(t *testing.T) {
				t.Parallel()
				var asked atomic.Int64
				a := lateWorld(t, on, func(_ http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						asked.Add(1)
					}
				})
				a.want(a.sendLate("hello", tt.key, func() { tt.spoil(a) }), tt.status, tt.code)
				if got := asked.Load(); (got == 1) != (tt.status == 200) {
					t.Errorf("the cell was asked %d times", got)
				}
			})
		}
	}
}

// TestWhoIsLetInIsAskedAgainBeforeTheRepeat: a request that a cell did not serve waits for a
// newer table, a flight as well.
func TestWhoIsLetInIsAskedAgainBeforeTheRepeat(t *testing.T) {
	t.Parallel()
	for name, tt := range spoilers {
		if tt.status == 403 || tt.status == 404 {
			continue // the newer table says so itself
		}
		for _, on := range append(engines, "HTTP/2") {
			t.Run(name+", "+on, func(t *testing.T) {
				t.Parallel()
				var asked atomic.Int64
				var a *authWorld
				a = lateWorld(t, on, func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost || asked.Add(1) > 1 {
						return
					}
					tt.spoil(a)
					a.placed(place(1, "c2", 2, directory.Active), "acme")
					stale(w, "active")
				})
				bearer := a.token
				if tt.key {
					bearer = a.key
				}
				a.want(a.do("GET", acme, "/", "", "Authorization", "Bearer "+bearer), 200, "") // flights verify no tokens
				before := a.taken.Load()
				a.want(a.do("POST", acme, "/", "hello", "Authorization", "Bearer "+bearer), tt.status, tt.code)
				if flew := a.taken.Load() > before; flew != (on == "h1" || on == "loop") {
					t.Errorf("it was a flight: %v", flew)
				}
				want := int64(1)
				if tt.status == 200 {
					want = 2
				}
				if got := asked.Load(); got != want {
					t.Errorf("cells were asked %d times, want %d", got, want)
				}
			})
		}
	}
}

// TestWhatAFlightMayHaveDoneIsNotDenied: of one that was sent before its credential was revoked
// nobody says that it was refused, also where the handler goes on with it.
func TestWhatAFlightMayHaveDoneIsNotDenied(t *testing.T) {
	t.Parallel()
	for _, on := range []string{"h1", "loop"} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			var a *authWorld
			a = lateWorld(t, on, func(_ http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					a.revokeKey()
					panic(http.ErrAbortHandler)
				}
			})
			a.want(a.do("POST", acme, "/", "hello", "Authorization", "Bearer "+a.key), 503, problem.CellUnavailable)
			if a.taken.Load() != 1 {
				t.Error("it was no flight")
			}
		})
	}
}

// sendLate sends a body that is spoilt when the router waits for it.
func (a *authWorld) sendLate(body string, key bool, spoil func()) answer {
	a.tb.Helper()
	bearer := a.token
	if key {
		bearer = a.key
	}
	r := a.request(a.tb.Context(), "POST", acme, "/", "", "Authorization", "Bearer "+bearer, "Expect", "100-continue")
	r.Body, r.ContentLength = &lateBody{strings.NewReader(body), spoil}, int64(len(body))
	return a.send(r)
}
