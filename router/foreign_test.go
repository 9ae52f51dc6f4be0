package router_test

import (
	"net/http"
	"strings"
	"sync/atomic"
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

// TestForeignTokensStayAtTheEdge: through the whole router, on each engine, what a
// cell gets is a token of ours, or none.
func TestForeignTokensStayAtTheEdge(t *testing.T) {
	t.Parallel()
	for _, e := range []string{"std", "handler", "h1", "loop"} {
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

// TestEachCellGetsATokenOfItsOwn: what a client has shown stays at the edge. Each cell that its request goes to, the
// direct way or again to where the tenant has moved, gets a token that counts there and nowhere else.
func TestEachCellGetsATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GET", "PATCH"} {
		var w *world
		var moved atomic.Bool
		var epoch atomic.Int64
		got := make(chan [2]string, 2)
		cell := func(id directory.CellID) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				got <- [2]string{string(id), strings.Join(r.Header["Authorization"], ", ")}
				if id == "c2" && moved.CompareAndSwap(false, true) {
					w.placed(place(2, "c1", int(epoch.Add(1)), directory.Active), "bolt")
					stale(rw, "moved")
				}
			})
		}
		w = newWorld(t, map[directory.CellID]http.Handler{"c1": cell("c1"), "c2": cell("c2")}, func(o *router.Options, _ *pool.Limits) { o.Chain.Others = issuer{} })
		for _, bearer := range []string{"Bearer bolts", w.token(2)} {
			moved.Store(false)
			w.placed(place(2, "c2", int(epoch.Add(1)), directory.Active), "bolt")
			if a := w.do(method, "bolt."+base, "/", "", "Authorization", bearer); a.StatusCode != 200 {
				t.Fatalf("got %d %s", a.StatusCode, a.body)
			}
			for _, want := range []directory.CellID{"c2", "c1"} {
				id, value := "", ""
				select {
				case sent := <-got:
					id, value = sent[0], strings.TrimPrefix(sent[1], "Bearer ")
				default:
					t.Fatalf("%s was not asked", want)
				}
				c, err := w.tokens.For(token.OfCell(want)).Verify(value, time.Now())
				if id != string(want) || err != nil || c.Tenant != 2 || c.Subject != "ann" {
					t.Errorf("%s: %s gets %q: %+v, %v", bearer, id, value, c, err)
				}
				if _, err := w.tokens.Verify(value, time.Now()); err == nil {
					t.Errorf("what %s gets counts at the edge", id)
				}
			}
		}
	}
}
