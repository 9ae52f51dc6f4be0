package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// A cutFeed is a directory at the other side of a network that can be cut: then a
// call takes as long as a connection that nobody takes, and fails.
type cutFeed struct {
	directory.Feed
	cut   atomic.Bool
	takes atomic.Int64 // how long a call takes that fails
}

func (f *cutFeed) call(ctx context.Context) error {
	if !f.cut.Load() {
		return nil
	}
	select {
	case <-time.After(time.Duration(f.takes.Load())):
	case <-ctx.Done():
	}
	return problem.New(problem.Unavailable, "no route to the directory")
}

func (f *cutFeed) Snapshot(ctx context.Context) (directory.Update, error) {
	if err := f.call(ctx); err != nil {
		return directory.Update{}, err
	}
	return f.Feed.Snapshot(ctx)
}

func (f *cutFeed) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	if err := f.call(ctx); err != nil {
		return directory.Update{}, err
	}
	u, err := f.Feed.Changes(ctx, r, since, wait)
	if f.cut.Load() {
		return directory.Update{}, problem.New(problem.Unavailable, "the answer is lost")
	}
	return u, err
}

// answering says where requests went.
type answering struct{}

func (answering) Forward(w http.ResponseWriter, _ *http.Request, to router.Target) error {
	_, _ = fmt.Fprintf(w, "%s at %d", to.Cell, to.Epoch)
	return nil
}

// TestF14CutOffForSevenDays: a router without its directory serves after a week as
// on the first day, has not grown, and knows what is new within a second of healing.
func TestF14CutOffForSevenDays(t *testing.T) {
	once(t)
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		for _, id := range []directory.CellID{"c1", "c2"} {
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
		}
		acme, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme", Cell: "c1"})
		if err != nil {
			t.Fatal(err)
		}
		feed, tab := &cutFeed{Feed: m}, table.New()
		rt := router.New(router.Options{
			Chain: &identify.Chain{}, Table: tab, AssertionKeys: keys(t), CellTimeout: time.Second, Forwarder: answering{},
			Hold: router.HoldLimits{Time: time.Second, Requests: 10, Bytes: 1 << 20}, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- rt.Follow(ctx, polled{feed}, "r1") }()
		time.Sleep(time.Second)
		ask := func(want string) {
			t.Helper()
			w := httptest.NewRecorder()
			rt.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/t/acme/x", nil))
			if got := w.Body.String(); got != want {
				t.Errorf("got %d %s, want %s", w.Code, got, want)
			}
		}
		ask("c1 at 1")

		feed.takes.Store(int64(500 * time.Millisecond)) // as dialTimeout of the client
		feed.cut.Store(true)
		time.Sleep(time.Hour)
		before, routines := heap(), runtime.NumGoroutine()
		feed.takes.Store(int64(5 * time.Second)) // the week is over sooner
		time.Sleep(7*24*time.Hour - 2*time.Hour)
		feed.takes.Store(int64(500 * time.Millisecond))
		time.Sleep(time.Hour)
		if grown := int64(heap()) - int64(before); grown > 1<<20 || runtime.NumGoroutine() > routines { //nolint:gosec // a heap fits
			t.Errorf("grown by %d bytes, from %d to %d goroutines", grown, routines, runtime.NumGoroutine())
		}
		ask("c1 at 1")
		for i, cell := range []directory.CellID{"c2", "c1", "c2"} {
			err := m.Place(t.Context(), directory.Placement{Tenant: acme.ID, Cell: cell, Epoch: directory.Epoch(i + 2), State: directory.Active})
			if err != nil {
				t.Fatal(err)
			}
		}
		ask("c1 at 1") // and the cell, which has given acme away, would refuse it

		feed.cut.Store(false)
		time.Sleep(time.Second)
		ask("c2 at 4")
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		rt.Close()
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestF15AFeedThatLies follows a directory through a network that drops, repeats,
// reorders and replays: the table never goes back, and ends as the directory's.
func TestF15AFeedThatLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		feed := &lyingFeed{Feed: m}
		tab, stop := following(t, feed)
		defer stop()
		for _, id := range []directory.CellID{"c1", "c2"} {
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
		}
		version, epochs := directory.Version(0), map[directory.TenantID]directory.Epoch{}
		for i := range 60 {
			n, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"})
			if err == nil && i > 0 {
				p := directory.Placement{Tenant: n.ID - 1, Cell: "c2", Epoch: 2, State: directory.Active}
				err = m.Place(t.Context(), p)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				time.Sleep(50 * time.Millisecond)
				v := tab.View()
				if v.Version() < version {
					t.Fatalf("back from version %d to %d", version, v.Version())
				}
				version = v.Version()
				for id := directory.TenantID(1); id <= n.ID; id++ {
					e, _ := v.ByID(id)
					if e.Epoch < epochs[id] {
						t.Fatalf("tenant %d back from epoch %d to %d", id, epochs[id], e.Epoch)
					}
					epochs[id] = e.Epoch
				}
			}
		}
		feed.honest.Store(true)
		time.Sleep(time.Second)
		for _, reason := range table.Reasons {
			if tab.Breaches(reason) == 0 {
				t.Errorf("no breach was counted as %s", reason)
			}
		}
		want, err := m.Snapshot(t.Context())
		if err != nil || tab.View().Version() != want.Version {
			t.Fatalf("got version %d, want %d, %v", tab.View().Version(), want.Version, err)
		}
		for _, r := range want.Routes {
			if e, ok := tab.View().BySlug(r.Slug); !ok || e.Placement != r.Placement {
				t.Errorf("%s: got %+v, %v, want %+v", r.Slug, e, ok, r.Placement)
			}
		}
	})
}

// TestF15ASilentStreamIsNoticed: a directory that takes each question and answers
// none is given up on after two beats, again and again, and asked anew.
func TestF15ASilentStreamIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		feed := &stuckFeed{Feed: m}
		tab, stop := following(t, feed)
		defer stop()
		time.Sleep(3 * time.Second)
		if since := time.Since(tab.Confirmed()); since > time.Second {
			t.Errorf("idle: last heard of %v ago, want one beat", since)
		}
		feed.stuck.Store(true)
		time.Sleep(10 * time.Second)
		if n := feed.asked.Load(); n < 3 {
			t.Errorf("asked %d times in 10 s", n)
		}
		if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 1, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
		feed.stuck.Store(false)
		time.Sleep(6 * time.Second) // one question may be out yet
		if tab.View().Version() != 1 {
			t.Errorf("at version %d, want 1", tab.View().Version())
		}
	})
}

// A swappedFeed is asked where the pointer leads now.
type swappedFeed struct {
	at atomic.Pointer[directorytest.Memory]
	directory.Feed
}

func (f *swappedFeed) Snapshot(ctx context.Context) (directory.Update, error) {
	return f.at.Load().Snapshot(ctx)
}

func (f *swappedFeed) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	return f.at.Load().Changes(ctx, r, since, wait)
}

// TestF15ARestoredRecordIsTaken: the record was restored to before what the router has,
// which hears within seconds of what is changed in it.
func TestF15ARestoredRecordIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := func(tenants int) *directorytest.Memory {
			m := directorytest.NewMemory()
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 100, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
			for i := range tenants {
				if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"}); err != nil {
					t.Fatal(err)
				}
			}
			return m
		}
		feed := &swappedFeed{}
		feed.at.Store(record(50))
		tab, stop := following(t, feed)
		defer stop()
		time.Sleep(3 * time.Second)
		before := tab.View().Version()
		restored := record(40)
		feed.at.Store(restored)
		time.Sleep(3 * time.Second)
		yes := true
		if _, err := restored.UpdateTenant(t.Context(), 7, directory.Change{Suspended: &yes}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if e, ok := tab.View().ByID(7); !ok || e.State != directory.Suspended {
			t.Errorf("got %+v, %v, want it suspended", e, ok)
		}
		if w, err := restored.Watermark(t.Context()); err != nil || w.Watermark != tab.View().Version() || w.Watermark <= before {
			t.Errorf("watermark: got %+v, %v, want r1 at the table's version, above %d", w, err, before)
		}
	})
}

// A stuckFeed takes questions and does not answer.
type stuckFeed struct {
	directory.Feed
	stuck atomic.Bool
	asked atomic.Int64
}

func (f *stuckFeed) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	if f.stuck.Load() {
		f.asked.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second): // as the client's timeout
		}
		return directory.Update{}, problem.New(problem.Unavailable, "no answer")
	}
	return f.Feed.Changes(ctx, r, since, wait)
}

// A lyingFeed gives, in turn, right answers, none, and every kind of wrong one.
type lyingFeed struct {
	directory.Feed
	honest atomic.Bool
	turn   int
	told   []directory.Update
}

func (f *lyingFeed) lie(u directory.Update, err error) (directory.Update, error) {
	if err != nil || f.honest.Load() {
		return u, err
	}
	f.told = append(f.told, u)
	f.turn++
	if u.Since != 0 && len(u.Routes) > 0 {
		switch f.turn % 4 {
		case 0: // spoilt on the way
			u.Routes = slices.Clone(u.Routes)
			u.Routes[0].Cell = "c9"
			return u, nil
		case 1: // of another directory, which is at the same version
			u.Head[0]++
			return u, nil
		}
	}
	switch f.turn % 7 {
	case 1: // lost
		return directory.Update{}, problem.New(problem.Unavailable, "lost")
	case 3: // an old one again, also in place of a snapshot
		return f.told[f.turn*7919%len(f.told)], nil
	case 4: // the one before, as when two change places
		return f.told[max(0, len(f.told)-2)], nil
	case 5: // one that starts further on: what is between was dropped
		u.Since++
		return u, nil
	}
	return u, nil
}

func (f *lyingFeed) Snapshot(ctx context.Context) (directory.Update, error) {
	return f.lie(f.Feed.Snapshot(ctx))
}

func (f *lyingFeed) Changes(ctx context.Context, r string, since directory.Version, wait time.Duration) (directory.Update, error) {
	return f.lie(f.Feed.Changes(ctx, r, since, wait))
}
