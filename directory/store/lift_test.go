package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestALiftIsForGood: many routers that are ahead lift the record once; pruning does not
// lead back to before; and after a pause it is lifted again.
func TestALiftIsForGood(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	if _, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"}); err != nil {
		t.Fatal(err)
	}
	var lifts sync.Map
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, err := s.Poll(t.Context(), "r1", 100, 0, directory.Report{})
			if !errors.Is(err, problem.Gone) {
				t.Errorf("got %v, want gone", err)
			}
			if errors.Is(err, directory.ErrLifted) {
				lifts.Store(i, true)
			}
		})
	}
	all.Wait()
	n := 0
	lifts.Range(func(any, any) bool { n++; return true })
	lifted := directory.Version(100 + directory.MarginVersions)
	if u, err := s.Snapshot(t.Context()); err != nil || n != 1 || u.Version != lifted {
		t.Fatalf("got %d lifts to version %d, %v, want one to %d", n, u.Version, err, lifted)
	}
	addCell(t, s, "c2")
	if p, err := s.Prune(t.Context(), int64(lifted), time.Hour); err != nil || p.Changes != 1 {
		t.Fatalf("prune: got %+v, %v, want the first version pruned, and the second left", p, err)
	}
	if _, err := s.Changes(t.Context(), "", 100, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("after a prune, from before the lift: got %v, want gone", err)
	}
	if u, err := s.Changes(t.Context(), "", lifted, 0); err != nil || len(u.Cells) != 1 {
		t.Errorf("from the lift: got %+v, %v, want c2", u, err)
	}
	if _, err := s.Changes(t.Context(), "r1", 2*lifted, 0); errors.Is(err, directory.ErrLifted) {
		t.Error("lifted twice at once")
	}
	exec(t, pool, `UPDATE directory.version SET lifted_at = lifted_at - interval '1 minute'`)
	if _, err := s.Changes(t.Context(), "r1", 2*lifted, 0); !errors.Is(err, directory.ErrLifted) {
		t.Errorf("a minute later: got %v, want it lifted", err)
	}
}
