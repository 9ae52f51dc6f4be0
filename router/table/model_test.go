package table

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/directory"
)

// TestTableAgainstAMap applies random histories, as a directory would make them,
// to a Table, to the Table that comes back from its file, and to a plain map.
func TestTableAgainstAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := New()
		if rapid.Bool().Draw(t, "packs") {
			tab.packFrom = 3
		}
		model := map[directory.TenantID]directory.Route{}
		owner := map[string]directory.TenantID{}
		version := directory.Version(0)
		for range rapid.IntRange(1, 40).Draw(t, "updates") {
			u := directory.Update{Since: version, Cells: cells("c1", "c2", "c3")}
			seen := map[directory.TenantID]bool{}
			for range rapid.IntRange(1, 6).Draw(t, "routes") {
				id := directory.TenantID(rapid.IntRange(1, 30).Draw(t, "tenant"))
				if seen[id] {
					continue
				}
				seen[id] = true
				r := change(t, id, model, owner)
				u.Routes = append(u.Routes, r)
				version++
			}
			u.Version = version
			if rapid.IntRange(0, 9).Draw(t, "snapshot") == 0 {
				u.Since, u.Routes = 0, nil
				for _, r := range model {
					u.Routes = append(u.Routes, r)
				}
			}
			if err := tab.Apply(u); err != nil {
				t.Fatalf("apply: %v", err)
			}
			compare(t, tab.View(), model, owner)
			if tab.View().wantsPacking(tab.packFrom) && rapid.IntRange(0, 9).Draw(t, "pack") == 0 {
				if err := tab.pack(); err != nil {
					t.Fatalf("pack: %v", err)
				}
				compare(t, tab.View(), model, owner)
			}
		}
		var file bytes.Buffer
		if err := tab.View().encode(&file, "", true); err != nil {
			t.Fatalf("encode: %v", err)
		}
		back, _, err := decode(file.Bytes(), "", New().seed)
		if err != nil {
			t.Fatalf("decode: %v", err)
		}
		compare(t, back, model, owner)
		if back.Tenants() != tab.View().Tenants() || back.Version() != tab.View().Version() {
			t.Fatalf("got %d tenants at %d, want %d at %d", back.Tenants(), back.Version(), tab.View().Tenants(), tab.View().Version())
		}
	})
}

// change gives tenant id a random new route and takes over names that are free.
func change(t *rapid.T, id directory.TenantID, model map[directory.TenantID]directory.Route, owner map[string]directory.TenantID) directory.Route {
	old := model[id]
	for name := range namesOf(&old) {
		delete(owner, name)
	}
	r := directory.Route{Placement: directory.Placement{
		Tenant: id, Epoch: old.Epoch + 1, Cell: directory.CellID(rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(t, "cell")),
		State: rapid.SampledFrom(states).Draw(t, "state"),
	}}
	if s := fmt.Sprintf("s%d", rapid.IntRange(0, 40).Draw(t, "slug")); owner[s] == 0 {
		r.Slug = s
	}
	if h := fmt.Sprintf("h%d.example", rapid.IntRange(0, 20).Draw(t, "host")); owner[h] == 0 {
		r.Hosts = []string{h}
	}
	for name := range namesOf(&r) {
		owner[name] = id
	}
	model[id] = r
	return r
}

func compare(t *rapid.T, v *View, model map[directory.TenantID]directory.Route, owner map[string]directory.TenantID) {
	for id := directory.TenantID(1); id <= 30; id++ {
		got, ok := v.ByID(id)
		want, known := model[id]
		if ok != known || got.Placement != want.Placement {
			t.Fatalf("tenant %d: got %+v, want %+v", id, got, want)
		}
	}
	for i := range 41 {
		name := fmt.Sprintf("s%d", i)
		if got, _ := v.BySlug(name); got.Tenant != owner[name] {
			t.Fatalf("slug %s: got tenant %d, want %d", name, got.Tenant, owner[name])
		}
		host := fmt.Sprintf("h%d.example", i)
		if got, _ := v.ByHost(host); got.Tenant != owner[host] {
			t.Fatalf("host %s: got tenant %d, want %d", host, got.Tenant, owner[host])
		}
	}
}
