package router_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/pool"
)

// An issuer knows one bearer as bolt's, and waives every other.
type issuer struct{}

// Verify implements identify.Verifier.
func (issuer) Verify(bearer, _, _ string, _ time.Time) (identify.Bearer, error) {
	if bearer == "bolts" {
		return identify.Bearer{Known: true, Slug: "bolt", Subject: "ann"}, nil
	}
	return identify.Bearer{Known: true, Waived: true}, nil
}

// Recall implements identify.Verifier.
func (is issuer) Recall(bearer string, now time.Time) (identify.Bearer, bool) {
	b, _ := is.Verify(bearer, "", "", now) // it never fails
	return b, !b.Waived
}

// TestForeignTokensStayAtTheEdge: through the whole router, on both engines, what a
// cell gets is a token of ours, or none.
func TestForeignTokensStayAtTheEdge(t *testing.T) {
	t.Parallel()
	for _, e := range []string{"std", "handler", "h1"} {
		got := make(chan []string, 1)
		cell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header["Authorization"] })
		w := newWorldOn(t, e, map[directory.CellID]http.Handler{"c1": cell, "c2": cell}, func(o *router.Options, _ *pool.Limits) { o.Chain.Others = issuer{} })
		for bearer, ours := range map[string]bool{"bolts": true, "waived": false} {
			for _, method := range []string{"GET", "POST"} {
				if a := w.do(method, "bolt."+base, "/", "", "Authorization", "Bearer "+bearer); a.StatusCode != 200 {
					t.Fatalf("%s: %s: got %d %s", e, bearer, a.StatusCode, a.body)
				}
				values := <-got
				if !ours && len(values) > 0 || ours && (len(values) != 1 || !token.Ours(strings.TrimPrefix(values[0], "Bearer "))) {
					t.Errorf("%s: %s: the cell gets %q", e, bearer, values)
				}
			}
		}
	}
}

// TestATokenOfOursIsRepeated: a request that went the direct way and is sent again,
// to where the tenant has moved, has a token of ours there, too.
func TestATokenOfOursIsRepeated(t *testing.T) {
	t.Parallel()
	if engine == "std" {
		t.Skip("it has no direct way")
	}
	got := make(chan []string, 2)
	var w *world
	asked := 0
	w = newWorld(t, map[directory.CellID]http.Handler{"c2": http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got <- r.Header["Authorization"]
		if asked++; asked == 1 { // one request is served after the other
			w.placed(place(2, "c2", 2, directory.Active), "bolt")
			rw.WriteHeader(http.StatusMisdirectedRequest)
		}
	})}, func(o *router.Options, _ *pool.Limits) { o.Chain.Others = issuer{} })
	if a := w.do("GET", "bolt."+base, "/", "", "Authorization", "Bearer bolts"); a.StatusCode != 200 || w.taken.Load() != 1 {
		t.Fatalf("got %d %s, %d on the direct way", a.StatusCode, a.body, w.taken.Load())
	}
	for range 2 {
		if values := <-got; len(values) != 1 || !token.Ours(strings.TrimPrefix(values[0], "Bearer ")) {
			t.Errorf("the cell gets %q", values)
		}
	}
}
