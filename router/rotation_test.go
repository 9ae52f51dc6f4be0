package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/keyring"
	"github.com/cellway/cellway/router/table"
)

// rotations is how often keys are replaced.
const rotations = 200

// A checkingCell takes what is asserted with its keys, as cells do, and nothing else.
type checkingCell struct{ keys atomic.Pointer[token.Keys] }

// takes gives it what is derived of keys for it: once, and not for each request.
func (c *checkingCell) takes(keys token.Keys) {
	its := keys.For(token.OfCell("c1"))
	c.keys.Store(&its)
}

func (c *checkingCell) Forward(w http.ResponseWriter, _ *http.Request, to router.Target) error {
	if _, err := c.keys.Load().CheckAssertion(to.Assertion, to.Cell, time.Now()); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
	}
	return nil
}

// A seat is where one router stands behind the balancer: processes with other keys
// follow one another there, and each finishes what it has begun.
type seat struct {
	mu      sync.Mutex
	rt      *router.Router
	begun   *sync.WaitGroup
	options router.Options
}

// restart puts a router with other keys in the seat and waits until the one before
// has finished its requests.
func (s *seat) restart(keys token.Keys) {
	o := s.options
	o.AssertionKeys, o.Registry = keys, prometheus.NewRegistry()
	next := router.New(o)
	s.mu.Lock()
	old, begun := s.rt, s.begun
	s.rt, s.begun = next, &sync.WaitGroup{}
	s.mu.Unlock()
	if old != nil {
		begun.Wait()
		old.Close()
	}
}

// ask is a request's status.
func (s *seat) ask() int {
	s.mu.Lock()
	rt, begun := s.rt, s.begun
	begun.Add(1)
	s.mu.Unlock()
	defer begun.Done()
	w := httptest.NewRecorder()
	rt.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/t/acme/x", nil))
	return w.Code
}

// TestX11AssertionKeysRotateUnderLoad: the keys that routers sign with are replaced
// again and again, as docs/SECURITY.md says, one process after the other; no
// request fails, and what the old key signed counts no more once it is dropped.
func TestX11AssertionKeysRotateUnderLoad(t *testing.T) {
	t.Parallel()
	once(t)
	m := directorytest.NewKeyWorld(t)
	u, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tab := table.New()
	if err := tab.Apply(u); err != nil {
		t.Fatal(err)
	}
	cell := &checkingCell{}
	seats := [2]*seat{}
	for i := range seats {
		seats[i] = &seat{options: router.Options{
			Chain: &identify.Chain{}, Table: tab, CellTimeout: time.Minute, Forwarder: cell, Log: slog.New(slog.DiscardHandler),
			Hold: router.HoldLimits{Time: time.Second, Requests: 10, Bytes: 1 << 20},
		}}
	}
	var served, failed atomic.Int64
	replace := func(s *seat, keys token.Keys) { // while requests come to both
		var load sync.WaitGroup
		for n := range 4 {
			load.Go(func() {
				for range 2 {
					if seats[n%2].ask() != http.StatusOK {
						failed.Add(1)
					}
					served.Add(1)
				}
			})
		}
		s.restart(keys)
		load.Wait()
	}
	everywhere := func(keys token.Keys) { // the cell first, then the routers, one after the other
		cell.takes(keys)
		for _, s := range seats {
			replace(s, keys)
		}
	}
	old := newKeys(t, 0)
	cell.takes(old)
	for _, s := range seats {
		s.restart(old)
	}
	defer func() {
		for _, s := range seats {
			s.rt.Close()
		}
	}()

	for n := range rotations {
		next := newKeys(t, n+1)
		both := append(token.Keys{}, old...)
		everywhere(append(both, next...))
		everywhere(append(append(token.Keys{}, next...), old...))
		// The routers sign with the new key and have finished what they began before.
		for _, s := range seats {
			replace(s, next)
		}
		stale, err := old.For(token.OfCell("c1")).Assert(token.Assertion{Tenant: 1, Cell: "c1", Epoch: 1, Window: time.Now().Unix()})
		if err != nil {
			t.Fatal(err)
		}
		counts := func() bool {
			_, err := cell.keys.Load().CheckAssertion(stale, "c1", time.Now())
			return err == nil
		}
		before := counts()
		cell.takes(next)
		if after := counts(); !before || after {
			t.Fatalf("rotation %d: what the old key signs counts before it is dropped: %v, and after: %v", n, before, after)
		}
		old = next
	}
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), served.Load())
	}
	t.Logf("%d rotations, %d requests", rotations, served.Load())
}

func newKeys(t *testing.T, n int) token.Keys {
	t.Helper()
	keys, err := token.ParseKeys(token.NewKey(fmt.Sprint("k", n)))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestX11ARevokedKeyStopsWithinASecond of the directory's word, again and again,
// and so does a key made just before become valid; nobody else's is touched.
func TestX11ARevokedKeyStopsWithinASecond(t *testing.T) {
	once(t)
	synctest.Test(t, func(t *testing.T) {
		world := directorytest.NewKeyWorld(t)
		m, acme, lasting := world.Memory, world.Acme, world.Text
		var ring token.Ring
		f := keyring.New(t.TempDir()+"/keys", &ring, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Follow(ctx, m) }()
		valid := func(key string) bool { _, _, err := ring.Check(key, time.Now()); return err == nil }
		for n := range rotations {
			key, record := token.NewAPIKey()
			record.Tenant, record.Name = acme.ID, "next"
			record, err := m.AddKey(t.Context(), record)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if !valid(key) {
				t.Fatalf("%d: a key is not valid a second after it was made", n)
			}
			if err := m.RevokeKey(t.Context(), acme.ID, record.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if valid(key) || !valid(lasting) {
				t.Fatalf("%d: revoked key valid %v, the other %v", n, valid(key), valid(lasting))
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
