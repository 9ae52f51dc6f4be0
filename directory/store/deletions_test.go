package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// TestADeletionByTheReleaseBeforeIsHeardOf: its processes write the tenant's state alone.
func TestADeletionByTheReleaseBeforeIsHeardOf(t *testing.T) {
	t.Parallel()
	url := fresh(t)
	s, pool := open(t, url), raw(t, url)
	ctx := t.Context()
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := s.AddCell(ctx, directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.CreateTenant(ctx, directory.NewTenant{Slug: "a", Cell: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.CreateMove(ctx, directory.NewMove{Tenant: a.ID, Target: "c2"})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = s.LeaseMove(ctx, m.ID, "m1", time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, p := range []directory.Phase{
		directory.Reserved, directory.Armed, directory.Frozen, directory.Decided, directory.Activated, directory.Watching,
	} {
		from := m.Phase
		if m.Phase = p; s.Advance(ctx, m, from) != nil {
			t.Fatalf("advance to %s", p)
		}
	}
	exec(t, pool, `UPDATE directory.tenants SET state = 'deleted', epoch = epoch + 1 WHERE id = $1`, int64(a.ID))
	list, err := s.ListDeletions(ctx, "c1", 0, 10)
	if err != nil || len(list) != 1 || list[0].Tenant != a.ID || list[0].Epoch != 3 || list[0].Due || !slices.Equal(list[0].Cells, []directory.CellID{"c1", "c2"}) {
		t.Errorf("got %+v, %v", list, err)
	}
	if m, err = s.Move(ctx, m.ID); err != nil || m.Phase != directory.Completed || m.Holder != "" {
		t.Errorf("the move that watches: got %+v, %v, want it completed", m, err)
	}
}

// TestTheGraceIsTheDirectorys: it is counted from the deletion, by the record's clock.
func TestTheGraceIsTheDirectorys(t *testing.T) {
	t.Parallel()
	url := fresh(t)
	s, pool := open(t, url), raw(t, url)
	s.Grace = 3 * time.Hour
	ctx := t.Context()
	if _, err := s.AddCell(ctx, directory.Cell{ID: "c1", Address: "http://c1", Capacity: 10, Incarnation: "db-c1"}); err != nil {
		t.Fatal(err)
	}
	a, err := s.CreateTenant(ctx, directory.NewTenant{Slug: "a", Cell: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteTenant(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE directory.deletions SET deleted_at = deleted_at - interval '3 hours', kept_from = kept_from - interval '3 hours'`)
	list, err := s.ListDeletions(ctx, "c1", 0, 10)
	if err != nil || len(list) != 1 || !list[0].Due || list[0].PurgeAt.Sub(list[0].DeletedAt) != 3*time.Hour {
		t.Errorf("got %+v, %v, want it due after 3 hours", list, err)
	}
	// Who is in a hurry is for an hour: then the grace is over, and no more than that.
	for _, hurried := range []bool{true, false, true} {
		if hurried {
			if err := s.HurryDeletion(ctx, a.ID); err != nil {
				t.Fatal(err)
			}
		} else {
			exec(t, pool, `UPDATE directory.deletions SET hurried_at = hurried_at - interval '61 minutes'`)
		}
		if list, err := s.ListDeletions(ctx, "c1", 0, 10); err != nil || !list[0].Due || list[0].Hurried != hurried {
			t.Errorf("hurried %v: got %+v, %v", hurried, list, err)
		}
	}
	// Also that of a tenant which a process of the release before has deleted.
	b, err := s.CreateTenant(ctx, directory.NewTenant{Slug: "b", Cell: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE directory.tenants SET state = 'deleted', epoch = epoch + 1 WHERE id = $1`, int64(b.ID))
	list, err = s.ListDeletions(ctx, "c1", a.ID, 10)
	if err != nil || len(list) != 1 || list[0].Due || list[0].PurgeAt.Sub(list[0].DeletedAt) != 3*time.Hour {
		t.Errorf("got %+v, %v, want 3 hours for both", list, err)
	}
}

// TestDueDeletionsAreCounted however many are in their grace before them.
func TestDueDeletionsAreCounted(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	exec(t, pool, `INSERT INTO directory.tenants (slug, cell, state) SELECT 't' || n, 'c1', 'deleted' FROM generate_series(1, 1003) n`)
	exec(t, pool, `INSERT INTO directory.deletions (tenant, epoch) SELECT id, 2 FROM directory.tenants`)
	exec(t, pool, `INSERT INTO directory.deletion_cells (cell, tenant) SELECT 'c1', id FROM directory.tenants WHERE slug <> 't1'`) // t1 is purged
	exec(t, pool, `UPDATE directory.deletions SET kept_from = kept_from - interval '30 days' WHERE tenant IN (SELECT id FROM directory.tenants WHERE slug IN ('t1', 't1003'))`)
	if kept, due, err := s.CountDeletions(t.Context()); err != nil || kept != 1001 || due != 1 {
		t.Errorf("got %d in their grace and %d due, %v, want 1001 and one", kept, due, err)
	}
}
