package table

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/cellway/cellway/directory"
)

// part is a part in a roll-out that brings c1 to another address.
func part(routes ...directory.Route) *directory.Part {
	return &directory.Part{Rollout: "ro_1", Round: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://new"}}, Routes: routes}
}

// told is an update that brings a part and nothing else.
func told(t *Table, p *directory.Part) directory.Update {
	v := t.record.Load()
	return directory.Update{Since: v.version, Version: v.version, Head: v.chain, Part: p}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAPartIsLaidOverTheRecord(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() *Table{
		"segments": func() *Table { return loaded(t) },
		"a base": func() *Table {
			tab := New()
			tab.packFrom = 2
			apply(t, tab, directory.Update{Version: 10, Cells: cells("c1", "c2"), Routes: []directory.Route{
				route(1, "c1", 1, "acme", "www.acme.com"), route(2, "c2", 3, "bolt"),
			}})
			return tab
		},
	} {
		tab := make()
		before := tab.View()
		acme, bolt := route(1, "c1", 1, "acme", "new.acme.com"), inState(route(2, "c2", 3, "bolt"), directory.Suspended)
		acme.State = ""
		apply(t, tab, told(tab, part(acme, bolt, route(9, "c1", 1, "unknown"))))
		v := tab.View()
		if !closed(before.Replaced()) || closed(v.Replaced()) || v.Version() != 10 || v.Tenants() != 2 {
			t.Errorf("%s: version %d of %d tenants, waiters woken: %v", name, v.Version(), v.Tenants(), closed(before.Replaced()))
		}
		if e, ok := v.ByHost("new.acme.com"); !ok || e.Address != "http://new" || e.Epoch != 1 || e.State != directory.Active {
			t.Errorf("%s: a new host: got %+v, %v", name, e, ok)
		}
		if _, ok := v.ByHost("www.acme.com"); ok {
			t.Errorf("%s: a host that the part takes away is found", name)
		}
		if e, _ := v.BySlug("bolt"); e.State != directory.Suspended || e.Address != "http://c2" {
			t.Errorf("%s: got %+v, want it suspended", name, e)
		}
		if _, ok := v.BySlug("unknown"); ok {
			t.Errorf("%s: a tenant that the record does not have is found", name)
		}

		// A move goes on under it.
		apply(t, tab, delta(10, 11, route(1, "c2", 2, "acme", "www.acme.com")))
		if e, _ := tab.View().ByHost("new.acme.com"); e.Cell != "c2" || e.Epoch != 2 {
			t.Errorf("%s: moved: got %+v", name, e)
		}
		if !closed(v.Replaced()) {
			t.Errorf("%s: nobody is woken by a change under a part", name)
		}
		if err := tab.pack(); err != nil {
			t.Fatal(err)
		}
		served := tab.View()
		if e, _ := served.ByHost("new.acme.com"); e.Epoch != 2 {
			t.Errorf("%s: packed: got %+v", name, e)
		}

		// The file never has it.
		var file bytes.Buffer
		if err := tab.record.Load().encode(&file, "", true); err != nil {
			t.Fatal(err)
		}
		if saved, _, err := decode(file.Bytes(), "", tab.seed); err != nil {
			t.Error(err)
		} else if e, ok := saved.ByHost("www.acme.com"); !ok || e.Epoch != 2 {
			t.Errorf("%s: saved: got %+v, %v", name, e, ok)
		}

		tab.DropPart()
		if e, ok := tab.View().ByHost("www.acme.com"); !ok || e.Cell != "c2" {
			t.Errorf("%s: dropped: got %+v, %v", name, e, ok)
		}
		if _, ok := tab.View().ByHost("new.acme.com"); ok || tab.Part().Rollout != "" || !closed(served.Replaced()) || tab.View() != tab.record.Load() {
			t.Errorf("%s: something of the part is left: %+v", name, tab.Part())
		}
		if closed(tab.View().Replaced()) {
			t.Errorf("%s: the view that is served is replaced", name)
		}
	}
}

// TestAPartTakesNobodysName: what the record gives to another tenant stays there.
func TestAPartTakesNobodysName(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, told(tab, part(route(2, "c2", 3, "bolt", "www.acme.com", "bolt.test"))))
	if e, _ := tab.View().ByHost("www.acme.com"); e.Tenant != 1 {
		t.Errorf("got tenant %d, want 1", e.Tenant)
	}
	if e, _ := tab.View().ByHost("bolt.test"); e.Tenant != 2 {
		t.Errorf("got tenant %d, want 2", e.Tenant)
	}
}

// TestAPartEndsWithoutAFlap: the update that brings the changes to the record ends
// the part, and nobody who looks meanwhile sees anything but the changes.
func TestAPartEndsWithoutAFlap(t *testing.T) {
	t.Parallel()
	tab := New()
	apply(t, tab, directory.Update{Version: 10, Cells: cells("c1"), Routes: []directory.Route{route(1, "c1", 1, "acme")}})
	apply(t, tab, told(tab, part(route(1, "c1", 1, "acme", "new.acme.com"))))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !closed(stop) {
				if e, ok := tab.View().ByHost("new.acme.com"); !ok || e.Address != "http://new" {
					t.Errorf("got %+v, %v", e, ok)
					return
				}
				runtime.Gosched()
			}
		})
	}
	for i := range 200 {
		v := 10 + 2*i
		u := delta(v, v+2, route(1, "c1", 1, "acme", "new.acme.com"))
		u.Cells, u.Part = []directory.CellRoute{{ID: "c1", Address: "http://new", State: directory.Ready}}, &directory.Part{}
		apply(t, tab, u)
		apply(t, tab, told(tab, part(route(1, "c1", 1, "acme", "new.acme.com"))))
	}
	close(stop)
	readers.Wait()
}

// TestWhatWasRolledOutPassesTheGuard: it is not taken at once any more. A part ends
// also where the guard keeps the record as it is.
func TestWhatWasRolledOutPassesTheGuard(t *testing.T) {
	t.Parallel()
	tab := New()
	tab.SetGuard(Guard{Share: 0.3, AtMost: 100})
	apply(t, tab, many(0, 10, 1000, 1, "c1"))
	all := suspended(many(10, 20, 1000, 1, "c1"))
	if err := tab.Apply(all); err == nil {
		t.Fatal("the guard lets all be suspended")
	}
	refused := all
	refused.Part = part(all.Routes...)
	if err := tab.Apply(refused); err == nil || !tab.Part().Serves() {
		t.Fatalf("got %v with part %+v", err, tab.Part())
	}
	all.Part = &directory.Part{}
	apply(t, tab, all)
	if e, _ := tab.View().BySlug(slug(7)); e.State != directory.Suspended || tab.View().Version() != 20 {
		t.Errorf("got %+v at version %d", e, tab.View().Version())
	}
}

// TestAPartThatCannotBe is of a directory that does not keep to the contract.
func TestAPartThatCannotBe(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, told(tab, part()))
	twice := route(1, "c1", 1, "acme", "a.test", "a.test")
	u := told(tab, part(twice))
	u.Version++ // the record is taken all the same
	if err := tab.Apply(u); !errors.Is(err, directory.ErrPart) || tab.View().Version() != u.Version {
		t.Errorf("got %v at version %d, want the part alone refused at %d", err, tab.View().Version(), u.Version)
	}
	if e, _ := tab.View().BySlug("acme"); e.Address != "http://c1" || tab.Part().Rollout != "" {
		t.Errorf("got %+v with part %+v, want the record", e, tab.Part())
	}
	if x := tab.Refusal(); x == nil || x.Rollout != "ro_1" || x.Round != 1 || x.Why == "" {
		t.Errorf("it says that it refused %+v", x)
	}
	apply(t, tab, told(tab, part()))
	if x := tab.Refusal(); x != nil {
		t.Errorf("it serves a part, and says that it refused %+v", x)
	}
}

func TestLookupUnderAPartAllocatesNothing(t *testing.T) {
	tab := loaded(t)
	apply(t, tab, told(tab, part(route(1, "c1", 1, "acme", "new.acme.com"))))
	if got := testing.AllocsPerRun(1000, func() {
		tab.View().BySlug("acme")
		tab.View().ByHost("new.acme.com")
		tab.View().ByID(2)
	}); got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
