package router_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
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

// A stagedFeed gives the part that it is set to to who has another one, and notes
// the last report.
type stagedFeed struct {
	directory.Feed // nil: nothing ever changes
	mu             sync.Mutex
	part           directory.Part
	dead           bool
	report         directory.Report
}

func (f *stagedFeed) set(p directory.Part, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.part, f.dead = p, dead
}

func (f *stagedFeed) said() directory.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report
}

func (f *stagedFeed) Poll(ctx context.Context, r string, since directory.Version, wait time.Duration, has directory.Report) (directory.Update, error) {
	f.mu.Lock()
	f.report = has
	part, dead := f.part, f.dead
	f.mu.Unlock()
	if dead {
		return directory.Update{}, problem.New(problem.Unavailable, "no answer")
	}
	u, err := directory.Update{Since: since, Version: since}, error(nil)
	switch {
	case f.Feed != nil && part.Is(has):
		return f.Changes(ctx, r, since, wait)
	case f.Feed != nil:
		u, err = f.Changes(ctx, r, since, 0)
	case part.Is(has):
		time.Sleep(5 * time.Millisecond) // the wait of a long poll
		return u, nil
	}
	u.Part = &part
	return u, err
}

// TestARouterTellsHowItsPartFares: requests to the cells of the part count from when
// it has it, and those to other cells never.
func TestARouterTellsHowItsPartFares(t *testing.T) {
	t.Parallel()
	status := map[string]int{"c1": 200, "c2": 500}
	cells := map[directory.CellID]http.Handler{}
	for _, id := range []string{"c1", "c2"} {
		cells[directory.CellID(id)] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/fail" {
				w.WriteHeader(http.StatusUnauthorized) // as a cell that an assertion is not for
				return
			}
			w.WriteHeader(status[id])
			_, _ = io.WriteString(w, id)
		})
	}
	w := newWorld(t, cells, nil)
	feed := &stagedFeed{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.router.Follow(ctx, feed, "r1") }()
	w.do("GET", "acme."+base, "/fail", "")
	feed.set(directory.Part{Rollout: "ro_1", Round: 1, Watch: []directory.CellID{"c1", ""}}, false)
	eventually(t, "the part", func() bool { return feed.said().Rollout == "ro_1" })
	if got := feed.said(); got.Requests != 0 {
		t.Errorf("at first: got %+v", got)
	}
	for range 3 {
		w.do("GET", "acme."+base, "/ok", "")
		w.do("GET", "acme."+base, "/fail", "")
		w.do("GET", "bolt."+base, "/ok", "")
		w.do("GET", "nobody."+base, "/", "")
	}
	want := directory.Report{Rollout: "ro_1", Round: 1, Requests: 9, Failed: 6}
	eventually(t, "the report", func() bool { return feed.said() == want })
	feed.set(directory.Part{Rollout: "ro_1", Round: 2, Watch: []directory.CellID{"c2"}}, false)
	eventually(t, "the next round", func() bool { return feed.said() == directory.Report{Rollout: "ro_1", Round: 2} })
	feed.set(directory.Part{}, false)
	eventually(t, "the end", func() bool { return feed.said() == directory.Report{} })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestARouterTellsWhatItCannotServe: else it would look like one that is slow to take it.
func TestARouterTellsWhatItCannotServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[directory.CellID]http.Handler{"c1": http.NotFoundHandler()}, nil)
	feed := &stagedFeed{}
	e, _ := w.table.View().BySlug("acme")
	twice := directory.Route{Placement: e.Placement, Slug: "acme", Hosts: []string{"a.test", "a.test"}}
	feed.set(directory.Part{Rollout: "ro_1", Round: 2, Routes: []directory.Route{twice}}, false)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.router.Follow(ctx, feed, "r1") }()
	eventually(t, "the refusal", func() bool {
		said := feed.said()
		return said.Rollout == "" && said.Refused != nil && said.Refused.Rollout == "ro_1" && said.Refused.Round == 2 && said.Refused.Why != ""
	})
	feed.set(directory.Part{Rollout: "ro_2", Round: 1}, false)
	eventually(t, "the next part", func() bool { said := feed.said(); return said.Rollout == "ro_2" && said.Refused == nil })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAPartEndsWithTheDirectory: who cannot hear a halt serves the record after as
// long as the directory waits before it halts.
func TestAPartEndsWithTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := directorytest.NewMemory()
		if _, err := m.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://old", Capacity: 1, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme"}); err != nil {
			t.Fatal(err)
		}
		feed := &stagedFeed{Feed: m}
		o := router.Options{Chain: &identify.Chain{}, Table: table.New(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()}
		rt := router.New(o)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- rt.Follow(ctx, feed, "r1") }()
		at := func() string {
			e, _ := o.Table.View().BySlug("acme")
			return e.Address
		}
		p := directory.Part{Rollout: "ro_1", Round: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://new"}}}
		feed.set(p, false)
		time.Sleep(2 * time.Second)
		if at() != "http://new" {
			t.Fatalf("got %s", at())
		}
		feed.set(p, true)
		time.Sleep(directory.HeartbeatTTL - time.Second)
		if at() != "http://new" {
			t.Errorf("after a short silence: got %s", at())
		}
		time.Sleep(3 * time.Second)
		if at() != "http://old" {
			t.Errorf("after a long one: got %s, want the record's", at())
		}
		feed.set(p, false)
		time.Sleep(2 * time.Second)
		if at() != "http://new" {
			t.Errorf("healed: got %s", at())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		rt.Close()
	})
}
