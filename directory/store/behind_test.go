package store_test

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/store"
	"github.com/cellway/cellway/infra/problem"
)

// TestWhoIsFarBehindTakesASnapshot: changes are never so many that they take longer than
// who asks for them waits, who would ask for the same ones for ever. The router is heard
// of all the same.
func TestWhoIsFarBehindTakesASnapshot(t *testing.T) {
	t.Parallel()
	url := fresh(t)
	s, pool := open(t, url), raw(t, url)
	if _, err := s.AddCell(t.Context(), directory.Cell{ID: "c1", Address: "http://c1", Capacity: 10, Incarnation: "db"}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `INSERT INTO directory.changes (version, cell, digest)
	               SELECT n, 'c1', decode(md5(n::text), 'hex') FROM generate_series(2, $1) n`, store.MostBehind+2)
	exec(t, pool, `UPDATE directory.version SET version = $1`, store.MostBehind+2)
	if u, err := s.Changes(t.Context(), "r1", 2, 0); err != nil || len(u.Links) != store.MostBehind {
		t.Errorf("as far behind as may be: got %d changes, %v", len(u.Links), err)
	}
	if _, err := s.Changes(t.Context(), "r2", 1, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("one more: got %v, want gone", err)
	}
	if _, err := s.Poll(t.Context(), "r3", 1, 0, directory.Report{}); !errors.Is(err, problem.Gone) {
		t.Errorf("one more, of a router that takes part in roll-outs: got %v, want gone", err)
	}
	mark, err := s.Watermark(t.Context())
	if err != nil || len(mark.Routers) != 3 || mark.Watermark != 1 {
		t.Fatalf("watermark: got %+v, %v, want three routers and 1", mark, err)
	}
	for i, want := range []directory.Version{2, 1, 1} {
		if r := mark.Routers[i]; r.Acked != want || !r.Live {
			t.Errorf("got %+v, want it alive at %d", r, want)
		}
	}
}
