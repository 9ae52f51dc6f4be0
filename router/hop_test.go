package router_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/guard"
)

// TestATrustedHopMayTakeBack any number of requests over its one connection: they are
// those of many clients.
func TestATrustedHopMayTakeBack(t *testing.T) {
	t.Parallel()
	began, left := make(chan struct{}), make(chan struct{})
	s := newSecure(t, map[directory.CellID]http.Handler{"c1": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	}), "c2": named("c2")})
	p, err := guard.Parse([]byte("trusted: [127.0.0.1]"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.router.Guard.Use(p); err != nil {
		t.Fatal(err)
	}
	c := s.over(t, acme, true)
	for range 400 { // anybody else may take back 256 at once
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = acme
		go func() {
			select {
			case <-began:
			case <-t.Context().Done(): // it has failed
			}
			cancel()
		}()
		if resp, err := c.Do(r); !errors.Is(err, context.Canceled) {
			if err == nil {
				resp.Body.Close()
			}
			t.Fatalf("got %v", err)
		}
		<-left
	}
	if a := s.ask(t, c, "GET", bolt, "/x", nil); a.StatusCode != 200 {
		t.Errorf("another client of the hop: got %d %s", a.StatusCode, a.body)
	}
	if n := testutil.CollectAndCount(s.registry, "router_http2_floods_total"); n != 0 {
		t.Errorf("%d kinds of floods", n)
	}
}
