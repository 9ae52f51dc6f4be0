package table

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// many is n tenants on a cell, as an update.
func many(since, version, n, epoch int, cell string) directory.Update {
	u := directory.Update{Since: directory.Version(since), Version: directory.Version(version), Cells: cells("c1", "c2")}
	for i := 1; i <= n; i++ {
		u.Routes = append(u.Routes, route(i, cell, epoch, slug(i)))
	}
	return u
}

// TestF17AnUpdateThatTakesTooMuchIsRefused: a valid but wrong table, as of a
// poisoned directory, does not reach requests; the last good one stays.
// TestABeatOfBeforeConfirmsNothing: the table has heard of more elsewhere.
func TestABeatOfBeforeConfirmsNothing(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	confirmed := tab.Confirmed()
	if err := tab.Confirm(9, directory.Head{}); err != nil || !tab.Confirmed().Equal(confirmed) {
		t.Errorf("of version 9: got %v, confirmed %s", err, tab.Confirmed())
	}
	if err := tab.Confirm(10, directory.Head{}); err != nil || tab.Confirmed().Equal(confirmed) {
		t.Errorf("of version 10: got %v, confirmed %s", err, tab.Confirmed())
	}
}

func TestF17AnUpdateThatTakesTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	for name, u := range map[string]directory.Update{
		"a snapshot that sends everybody to one cell": many(0, 20, 1000, 2, "c2"),
		"changes that do":                 many(10, 20, 1000, 2, "c2"),
		"a snapshot without most tenants": many(0, 20, 600, 1, "c1"),
		"a snapshot that suspends all":    suspended(many(0, 20, 1000, 1, "c1")),
		"a cell that is retired":          {Since: 10, Version: 20, Cells: []directory.CellRoute{{ID: "c1", Address: "http://c1", State: directory.Retired}}},
		"a cell without an address":       {Since: 10, Version: 20, Cells: []directory.CellRoute{{ID: "c1", State: directory.Ready}}},
		"a snapshot without the cell":     without(many(0, 20, 1000, 1, "c1"), "c1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tab := New()
			tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
			apply(t, tab, many(0, 10, 1000, 1, "c1"))
			confirmed := tab.Confirmed()
			for range 2 {
				if err := tab.Apply(u); !errors.Is(err, problem.Conflict) {
					t.Fatalf("got %v, want conflict", err)
				}
			}
			if at, n := tab.Refusing(); at != 20 || n != 2 || tab.View().Version() != 10 {
				t.Errorf("refusing %d, %d times, at version %d", at, n, tab.View().Version())
			}
			if e, ok := tab.View().BySlug(slug(900)); !ok || e.Cell != "c1" || e.Address == "" || e.State != directory.Active {
				t.Errorf("got %+v", e)
			}
			if heard := !tab.Confirmed().Equal(confirmed); heard != (u.Since != 0) {
				t.Errorf("confirmed by it: %v, want so by changes only", heard)
			}
			tab.Allow(20)
			apply(t, tab, u)
			if at, _ := tab.Refusing(); at != 0 || tab.View().Version() != 20 {
				t.Errorf("allowed: refusing %d at version %d", at, tab.View().Version())
			}
		})
	}
}

// suspended is u with every tenant suspended.
func suspended(u directory.Update) directory.Update {
	for i := range u.Routes {
		u.Routes[i].State = directory.Suspended
	}
	return u
}

// without is u without a cell.
func without(u directory.Update, id directory.CellID) directory.Update {
	u.Cells = slices.DeleteFunc(u.Cells, func(c directory.CellRoute) bool { return c.ID == id })
	return u
}

func TestTheGuardLetsUsualChangesPass(t *testing.T) {
	t.Parallel()
	tab := New()
	tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
	apply(t, tab, many(0, 10, 300, 1, "c1"))
	apply(t, tab, many(10, 110, 90, 2, "c2")) // few
	apply(t, tab, many(110, 111, 1, 3, "c1")) // a move
	u := many(0, 112, 1300, 2, "c2")          // a thousand new ones, and the 90 stay where they are
	for i := range u.Routes {
		if i < 300 && i >= 90 || i == 0 {
			u.Routes[i].Cell = "c1"
		}
	}
	apply(t, tab, u)
}

// TestAnEmptyCellMayGo: who has moved off, also in the same update, does not count twice.
func TestAnEmptyCellMayGo(t *testing.T) {
	t.Parallel()
	tab := New()
	tab.packFrom = 500
	tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
	first := many(0, 10, 1000, 1, "c1")
	for i := range 90 {
		first.Routes[i].Cell = "c2"
	}
	apply(t, tab, first)
	u := directory.Update{Since: 10, Version: 200, Cells: []directory.CellRoute{{ID: "c2", Address: "http://c2", State: directory.Retired}}}
	for i := range 90 {
		u.Routes = append(u.Routes, route(i+1, "c1", 2, slug(i+1)))
	}
	apply(t, tab, u)
	err := tab.Apply(directory.Update{Since: 200, Version: 201, Cells: []directory.CellRoute{{ID: "c1", State: directory.Retired}}})
	if !errors.Is(err, problem.Conflict) {
		t.Errorf("the cell of all tenants, which are packed: got %v, want conflict", err)
	}
}

// TestThoseWhoWereDeletedAreNotTaken: a table remembers whom it saw deleted, and a
// snapshot, which never names them, takes nobody by that.
func TestThoseWhoWereDeletedAreNotTaken(t *testing.T) {
	t.Parallel()
	for _, packFrom := range []int{500, packFrom} {
		tab := New()
		tab.packFrom = packFrom
		tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
		apply(t, tab, many(0, 10, 1000, 1, "c1"))
		for i := range 450 {
			apply(t, tab, delta(10+i, 11+i, inState(route(1000-i, "c1", 1, slug(1000-i)), directory.Deleted)))
		}
		apply(t, tab, many(0, 461, 550, 1, "c1"))
		if v := tab.View(); v.Version() != 461 || v.Tenants() != 550 {
			t.Errorf("got version %d with %d tenants", v.Version(), v.Tenants())
		}
	}
}

// TestTheShareIsOfThoseWhoLive: the deleted ones that are remembered do not make room for more.
func TestTheShareIsOfThoseWhoLive(t *testing.T) {
	t.Parallel()
	tab := New()
	tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
	apply(t, tab, many(0, 10, 1000, 1, "c1"))
	for i := range 450 {
		apply(t, tab, delta(10+i, 11+i, inState(route(1000-i, "c1", 1, slug(1000-i)), directory.Deleted)))
	}
	if err := tab.Apply(many(460, 461, 200, 2, "c2")); !errors.Is(err, problem.Conflict) {
		t.Errorf("200 of 550: got %v, want conflict", err)
	}
}

// TestAnAllowanceOutlivesAVersion: a busy directory is at another version before the
// table asks again, so what is allowed is what was refused, and a little more, once
// and within a minute.
func TestAnAllowanceOutlivesAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := New()
		tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
		apply(t, tab, many(0, 10, 1000, 1, "c1"))
		refused := func(u directory.Update, at directory.Version, why string) {
			t.Helper()
			if err := tab.Apply(u); !errors.Is(err, problem.Conflict) {
				t.Fatalf("%s: got %v, want conflict", why, err)
			}
			if got, _ := tab.Refusing(); got != at {
				t.Errorf("%s: refusing %d, want %d", why, got, at)
			}
		}
		refused(many(0, 20, 500, 2, "c2"), 20, "not allowed")
		refused(many(10, 25, 500, 2, "c2"), 20, "the same, later")
		tab.Allow(19)
		refused(many(10, 26, 500, 2, "c2"), 20, "another version is allowed")
		tab.Allow(20)
		time.Sleep(allowedFor)
		refused(many(10, 27, 500, 2, "c2"), 20, "allowed a minute ago")
		tab.Allow(20)
		refused(many(10, 28, 700, 2, "c2"), 20, "takes more than was refused")
		apply(t, tab, many(10, 30, 520, 2, "c2")) // a few more went meanwhile
		refused(many(30, 31, 400, 3, "c1"), 31, "the next one")
	})
}
