package table

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func route(id int, cell string, epoch int, slug string, hosts ...string) directory.Route {
	return directory.Route{Slug: slug, Hosts: hosts, Placement: directory.Placement{
		Tenant: directory.TenantID(id), Cell: directory.CellID(cell), Epoch: directory.Epoch(epoch), State: directory.Active,
	}}
}

func inState(r directory.Route, s directory.State) directory.Route {
	r.State = s
	return r
}

func cells(ids ...string) []directory.CellRoute {
	var out []directory.CellRoute
	for _, id := range ids {
		out = append(out, directory.CellRoute{ID: directory.CellID(id), Address: "http://" + id, State: directory.Ready})
	}
	return out
}

// loaded is a table with two cells and two tenants at version 10.
func loaded(tb testing.TB) *Table {
	tb.Helper()
	t := New()
	apply(tb, t, directory.Update{Version: 10, Cells: cells("c1", "c2"), Routes: []directory.Route{
		route(1, "c1", 1, "acme", "www.acme.com"), route(2, "c2", 3, "bolt"),
	}})
	return t
}

func apply(tb testing.TB, t *Table, u directory.Update) {
	tb.Helper()
	if err := t.Apply(u); err != nil {
		tb.Fatalf("apply %+v: %v", u, err)
	}
}

func delta(since, version int, routes ...directory.Route) directory.Update {
	return directory.Update{Since: directory.Version(since), Version: directory.Version(version), Routes: routes}
}

func TestAnEmptyTableKnowsNobody(t *testing.T) {
	t.Parallel()
	v := New().View()
	if _, ok := v.BySlug("acme"); ok {
		t.Error("slug found")
	}
	if _, ok := v.ByHost("acme.com"); ok {
		t.Error("host found")
	}
	if _, ok := v.ByID(1); ok {
		t.Error("id found")
	}
	if New().Loaded() {
		t.Error("loaded")
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	v := loaded(t).View()
	want := Entry{directory.Placement{Tenant: 1, Cell: "c1", Epoch: 1, State: directory.Active}, "http://c1"}
	for name, find := range map[string]func() (Entry, bool){
		"slug": func() (Entry, bool) { return v.BySlug("acme") },
		"host": func() (Entry, bool) { return v.ByHost("www.acme.com") },
		"id":   func() (Entry, bool) { return v.ByID(1) },
	} {
		if got, ok := find(); !ok || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, ok, want)
		}
	}
	if _, ok := v.BySlug("www.acme.com"); ok {
		t.Error("a host passed for a slug")
	}
	if _, ok := v.ByHost("acme"); ok {
		t.Error("a slug passed for a host")
	}
	if _, ok := v.BySlug(""); ok {
		t.Error("the empty name was found")
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	tab := loaded(t)
	apply(t, tab, delta(10, 11, route(3, "c1", 1, "crow")))
	v := tab.View()
	slugs := []string{"acme", "bolt", "crow", "nobody"}
	got := testing.AllocsPerRun(1000, func() {
		for _, s := range slugs {
			v.BySlug(s)
		}
		tab.View().ByHost("www.acme.com")
		tab.View().ByID(2)
	})
	if got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func TestApplyDelta(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, delta(10, 12, route(1, "c2", 2, "acme", "new.acme.com"), route(3, "c1", 1, "crow")))
	v := tab.View()
	if e, _ := v.BySlug("acme"); e.Cell != "c2" || e.Epoch != 2 {
		t.Errorf("acme: got %+v, want c2 at epoch 2", e)
	}
	if _, ok := v.ByHost("www.acme.com"); ok {
		t.Error("a host that the tenant gave up is still found")
	}
	if _, ok := v.ByHost("new.acme.com"); !ok {
		t.Error("the new host is not found")
	}
	if got := v.Tenants(); got != 3 {
		t.Errorf("got %d tenants, want 3", got)
	}
	if v.Version() != 12 {
		t.Errorf("got version %d, want 12", v.Version())
	}
}

func TestANamePassesToAnotherTenant(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, delta(10, 11, inState(route(1, "c1", 2, "acme"), directory.Deleted)))
	if _, ok := tab.View().BySlug("acme"); ok {
		t.Fatal("a deleted tenant is found by its slug")
	}
	if e, ok := tab.View().ByID(1); !ok || e.State != directory.Deleted {
		t.Fatalf("deleted tenant by id: got %+v, %v", e, ok)
	}
	apply(t, tab, delta(11, 12, route(9, "c2", 1, "acme")))
	if e, _ := tab.View().BySlug("acme"); e.Tenant != 9 {
		t.Errorf("acme: got tenant %d, want 9", e.Tenant)
	}
}

func TestApplyNeverGoesBack(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, delta(10, 20, route(2, "c1", 7, "bolt")))
	apply(t, tab, delta(8, 15, route(2, "c2", 9, "bolt"))) // late: no error and no change
	if e, _ := tab.View().ByID(2); e.Epoch != 7 {
		t.Errorf("a late update changed the table: %+v", e)
	}
	apply(t, tab, delta(18, 21, route(2, "c2", 6, "bolt")))
	if e, _ := tab.View().ByID(2); e.Epoch != 7 || e.Cell != "c1" {
		t.Errorf("the epoch went down: %+v", e)
	}
	apply(t, tab, directory.Update{Version: 30, Cells: cells("c1", "c2"), Routes: []directory.Route{route(2, "c2", 5, "bolt")}})
	if e, _ := tab.View().ByID(2); e.Epoch != 7 || e.Cell != "c1" {
		t.Errorf("a snapshot lowered the epoch: %+v", e)
	}
	if _, ok := tab.View().ByID(1); ok {
		t.Error("a tenant that the snapshot does not have is still there")
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		u    directory.Update
		want problem.Kind
	}{
		"backwards":            {delta(10, 9), problem.Invalid},
		"a tenant twice":       {delta(10, 11, route(3, "c1", 1, "x"), route(3, "c1", 2, "y")), problem.Invalid},
		"a name twice":         {delta(10, 11, route(3, "c1", 1, "x"), route(4, "c1", 1, "x")), problem.Invalid},
		"an unknown state":     {delta(10, 11, inState(route(3, "c1", 1, "x"), "odd")), problem.Invalid},
		"epoch 0":              {delta(10, 11, route(3, "c1", 0, "x")), problem.Invalid},
		"an epoch too high":    {delta(10, 11, route(3, "c1", maxEpoch+1, "x")), problem.Invalid},
		"a name that too long": {delta(10, 11, route(3, "c1", 1, string(make([]byte, 256)))), problem.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tab := loaded(t)
			before := tab.View()
			if err := tab.Apply(tt.u); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tab.View() != before {
				t.Error("the table changed")
			}
		})
	}
}

// TestWhatDoesNotContinue says why, and changes nothing.
func TestWhatDoesNotContinue(t *testing.T) {
	t.Parallel()
	head := directory.Head{7}
	whole := directory.Update{Version: 10, Head: head, Cells: cells("c1"), Routes: []directory.Route{route(1, "c1", 5, "a")}}
	r := route(1, "c1", 6, "a")
	good := directory.Update{
		Since: 10, Version: 11, Head: head.After(11, r.Digest()), Routes: []directory.Route{r},
		Links: []directory.Link{{Tenant: 1, Digest: r.Digest()}},
	}
	with := func(f func(u *directory.Update)) directory.Update {
		u := good
		f(&u)
		return u
	}
	for name, tt := range map[string]struct {
		u    directory.Update
		want string
	}{
		"as it was sent":     {good, ""},
		"a gap":              {with(func(u *directory.Update) { u.Since, u.Version = 11, 12 }), directory.Gap},
		"a change left out":  {with(func(u *directory.Update) { u.Version = 12 }), directory.Gap},
		"an old snapshot":    {directory.Update{Version: 9, Head: head}, directory.Older},
		"other contents":     {with(func(u *directory.Update) { u.Routes = []directory.Route{route(1, "c2", 6, "a")} }), directory.Content},
		"a route left out":   {with(func(u *directory.Update) { u.Routes = nil }), directory.Content},
		"one too many":       {with(func(u *directory.Update) { u.Routes = append(u.Routes[:1:1], route(2, "c1", 1, "b")) }), directory.Content},
		"another history":    {with(func(u *directory.Update) { u.Head[0]++ }), directory.Fork},
		"another repetition": {directory.Update{Since: 10, Version: 10, Head: directory.Head{8}}, directory.Fork},
		"no chain":           {with(func(u *directory.Update) { u.Head, u.Links = directory.Head{}, nil }), directory.Fork},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tab := New()
			apply(t, tab, whole)
			err := tab.Apply(tt.u)
			if b, broken := errors.AsType[*directory.Breach](err); broken != (tt.want != "") || broken && b.Reason != tt.want {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if tt.want != "" && tab.View().Version() != 10 {
				t.Error("the table changed")
			}
		})
	}
}

func TestReplacedIsClosedByTheNextTable(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	v := tab.View()
	apply(t, tab, delta(10, 10)) // a confirmation is not a change
	select {
	case <-v.Replaced():
		t.Fatal("closed without a change")
	default:
	}
	apply(t, tab, delta(10, 11))
	<-v.Replaced()
}

func TestCellsOfATable(t *testing.T) {
	t.Parallel()
	tab := loaded(t)
	apply(t, tab, directory.Update{Since: 10, Version: 11, Cells: []directory.CellRoute{
		{ID: "c1", Address: "http://elsewhere", State: directory.Cordoned}, {ID: "c2", Address: "http://c2", State: directory.Retired},
	}, Routes: []directory.Route{route(5, "c9", 1, "early")}})
	v := tab.View()
	for slug, want := range map[string]string{"acme": "http://elsewhere", "bolt": "", "early": ""} {
		if e, ok := v.BySlug(slug); !ok || e.Address != want {
			t.Errorf("%s: got address %q, %v, want %q", slug, e.Address, ok, want)
		}
	}
	if got := len(v.Cells()); got != 1 {
		t.Errorf("got %d live cells, want 1", got)
	}
	apply(t, tab, directory.Update{Version: 12, Cells: cells("c2"), Routes: []directory.Route{route(1, "c1", 1, "acme")}})
	if e, _ := tab.View().BySlug("acme"); e.Address != "" {
		t.Errorf("a cell that the snapshot lacks still has address %q", e.Address)
	}
}

func TestManyTenantsAndChanges(t *testing.T) {
	t.Parallel()
	const n = 20_000
	tab := New()
	apply(t, tab, snapshot(n))
	version := tab.View().Version()
	for i := 1; i <= 3000; i++ {
		id := i*7%n + 1
		next := route(id, "c2", 2, slug(id), fmt.Sprintf("h%d.example.com", id))
		apply(t, tab, directory.Update{Since: version, Version: version + 1, Routes: []directory.Route{next}})
		version++
	}
	v := tab.View()
	if v.Tenants() != n {
		t.Errorf("got %d tenants, want %d", v.Tenants(), n)
	}
	if len(v.segments) > 8 {
		t.Errorf("got %d segments", len(v.segments))
	}
	for id := 1; id <= n; id++ {
		e, ok := v.BySlug(slug(id))
		if !ok || e.Tenant != directory.TenantID(id) {
			t.Fatalf("%s: got %+v, %v", slug(id), e, ok)
		}
	}
}

func slug(id int) string { return "tenant-" + strconv.Itoa(id) }

// snapshot has n tenants on ten cells.
func snapshot(n int) directory.Update {
	u := directory.Update{Version: 100, Cells: cells("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9")}
	u.Routes = make([]directory.Route, n)
	for i := range u.Routes {
		u.Routes[i] = route(i+1, "c"+strconv.Itoa(i%10), 1, slug(i+1))
	}
	return u
}
