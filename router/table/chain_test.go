package table

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// TestF15AnyUpdatesInAnyOrder: whatever a network makes of a directory's updates
// (lost, twice, late, in another order, cut, spoilt, of another directory), the
// table shows at each version what the directory had, or is unchanged; no tenant's
// epoch goes back, also over a restart from the file; a snapshot makes it whole.
func TestF15AnyUpdatesInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		tab := New()
		epochs := map[directory.TenantID]directory.Epoch{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w.change(t)
			version := tab.View().Version()
			u := w.update(t, version)
			err := tab.Apply(u)
			if _, broken := errors.AsType[*directory.Breach](err); err != nil && !broken {
				t.Fatalf("apply %+v: %v", u, err)
			}
			if tab.View().Version() < version {
				t.Fatalf("back from version %d to %d", version, tab.View().Version())
			}
			w.compare(t, tab.View(), epochs)
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				tab = restarted(t, tab)
				w.compare(t, tab.View(), epochs)
			}
		}
		if err := tab.Apply(w.snapshot(t)); err != nil {
			t.Fatal(err)
		}
		w.compare(t, tab.View(), epochs)
	})
}

// restarted is the table as a process that starts reads it.
func restarted(t *rapid.T, tab *Table) *Table {
	var file bytes.Buffer
	if err := tab.View().encode(&file, "", true); err != nil {
		t.Fatal(err)
	}
	next := New()
	v, _, err := decode(file.Bytes(), "", next.seed)
	if err != nil || v.chain != tab.View().chain {
		t.Fatalf("decode: %v, or another head", err)
	}
	if tab.Loaded() {
		next.replace(v)
	}
	return next
}

// A world is a directory, what it had at each version, what it has sent, and
// another directory whose updates look the same.
type world struct {
	m, other *directorytest.Memory
	had      map[directory.Version]directory.Update
	sent     []directory.Update
	tenants  int
}

func newWorld(t *rapid.T) *world {
	w := &world{m: directorytest.NewMemory(), other: directorytest.NewMemory(), had: map[directory.Version]directory.Update{}}
	for _, m := range []*directorytest.Memory{w.m, w.other} {
		for _, id := range []directory.CellID{"c1", "c2"} {
			if _, err := m.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100, Incarnation: "db"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

func (w *world) snapshot(t *rapid.T) directory.Update {
	u, err := w.m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// change changes both directories, differently.
func (w *world) change(t *rapid.T) {
	for range rapid.IntRange(0, 4).Draw(t, "changes") {
		var err error
		if w.tenants == 0 || rapid.Bool().Draw(t, "new") {
			w.tenants++
			for _, m := range []*directorytest.Memory{w.m, w.other} {
				if _, err = m.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", w.tenants), Cell: "c1"}); err != nil {
					t.Fatal(err)
				}
			}
		} else {
			id := directory.TenantID(rapid.IntRange(1, w.tenants).Draw(t, "tenant"))
			cell := rapid.SampledFrom([]directory.CellID{"c1", "c2"}).Draw(t, "cell")
			for _, m := range []*directorytest.Memory{w.m, w.other} {
				was, _ := m.Tenant(t.Context(), id.String())
				err = m.Place(t.Context(), directory.Placement{Tenant: id, Cell: cell, Epoch: was.Placement.Epoch + 1, State: directory.Active})
				if err != nil {
					t.Fatal(err)
				}
				cell = "c1"
			}
		}
		w.had[w.snapshot(t).Version] = w.snapshot(t)
	}
	w.had[w.snapshot(t).Version] = w.snapshot(t)
}

// update is what arrives at a router that asked for changes since at.
func (w *world) update(t *rapid.T, at directory.Version) directory.Update {
	since := max(0, at-directory.Version(rapid.IntRange(0, 3).Draw(t, "late")))
	u, err := w.m.Changes(t.Context(), "", since, 0)
	if rapid.IntRange(0, 9).Draw(t, "whole") == 0 {
		u = w.snapshot(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.sent = append(w.sent, u)
	fault := rapid.SampledFrom([]string{"", "", "replayed", "gap", "cut", "spoilt", "reordered", "forked"}).Draw(t, "fault")
	switch n := len(u.Routes); {
	case fault == "replayed":
		return rapid.SampledFrom(w.sent).Draw(t, "which")
	case fault == "forked" && at > 0:
		u, err = w.other.Changes(t.Context(), "", at, 0)
		if err != nil {
			t.Fatal(err)
		}
	case u.Since == 0 || n == 0: // who asks for a whole table believes it: the connection is what protects it
	case fault == "gap":
		u.Since++
	case fault == "cut":
		u.Routes = u.Routes[:n-1]
	case fault == "spoilt":
		u.Routes = append(u.Routes[:n-1:n-1], u.Routes[n-1])
		u.Routes[n-1].Cell = "c3"
	case fault == "reordered" && len(u.Links) > 1 && u.Links[0] != u.Links[1]:
		u.Links = append([]directory.Link{u.Links[1], u.Links[0]}, u.Links[2:]...)
	}
	return u
}

// compare holds v to what the directory had at its version.
func (w *world) compare(t *rapid.T, v *View, epochs map[directory.TenantID]directory.Epoch) {
	if v.Version() == 0 {
		return
	}
	had, ok := w.had[v.Version()]
	if !ok || v.chain != had.Head {
		t.Fatalf("at version %d with head %x, which the directory never had", v.Version(), v.chain)
	}
	for _, r := range had.Routes {
		e, ok := v.BySlug(r.Slug)
		if !ok || e.Placement != r.Placement || e.Epoch < epochs[r.Tenant] {
			t.Fatalf("version %d, %s: got %+v, want %+v", v.Version(), r.Slug, e, r.Placement)
		}
		epochs[r.Tenant] = e.Epoch
	}
}
