package streams

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/identify"
	"github.com/cellway/cellway/router/table"
)

// BenchmarkATableThatChanges is what a change of another tenant's placement costs a router that has
// many streams.
func BenchmarkATableThatChanges(b *testing.B) {
	const streams = 50_000
	for _, tenants := range []int{500, 5_000, streams} {
		b.Run(fmt.Sprint(streams, " streams of ", tenants, " tenants"), func(b *testing.B) {
			t, s := table.New(), New(prometheus.NewRegistry(), &identify.Chain{})
			u := directory.Update{Version: 1, Cells: []directory.CellRoute{{ID: "c1", Address: "http://c1", State: directory.Ready}}}
			for id := range tenants {
				p := directory.Placement{Tenant: directory.TenantID(id + 1), Cell: "c1", Epoch: 1, State: directory.Active}
				u.Routes = append(u.Routes, directory.Route{Placement: p, Slug: fmt.Sprint("t", id)})
			}
			if err := t.Apply(u); err != nil {
				b.Fatal(err)
			}
			for n := range streams {
				s.Add(t, u.Routes[n%tenants].Placement, identify.Credential{}, func(h1.Ending) { b.Error("it was ended") })
			}
			for b.Loop() {
				s.gone(t, false)
			}
		})
	}
}
