package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cellway/cellway/directory"
)

// large is 100,000 tenants on 100 cells in four localities: loads have a long tail,
// and the lower a cell's number, the fuller it is.
func large() State {
	random := rand.New(rand.NewPCG(1, 2))
	var s State
	for i := range 100 {
		s.Cells = append(s.Cells, Cell{
			ID: directory.CellID(fmt.Sprintf("c%02d", i)), State: directory.Ready, Healthy: true,
			Locality: fmt.Sprintf("l%d", i%4), Tier: "std", Capacity: 2500,
			Limit: Load{Requests: 20_000, Bytes: 50_000_000_000, Connections: 20_000},
		})
	}
	for i := range 100_000 {
		size := random.ExpFloat64() * random.ExpFloat64()
		t := Tenant{
			ID: directory.TenantID(i + 1), Cell: s.Cells[int(100*random.Float64()*random.Float64())].ID, Budget: Unlimited,
			Load: Load{Requests: 5 * size, Bytes: int64(10_000_000 * random.ExpFloat64()), Connections: size},
		}
		if i%3 == 0 {
			t.Locality = fmt.Sprintf("l%d", random.IntN(4))
		}
		if i%10 == 0 {
			t.Group = fmt.Sprintf("g%d", i/50)
		}
		s.Tenants = append(s.Tenants, t)
	}
	return s
}

func BenchmarkPlan(b *testing.B) {
	s := large()
	for _, bench := range []struct {
		name string
		plan func() (Plan, error)
	}{
		{"drain", func() (Plan, error) { return Drain(s, "c00", Default()) }},
		{"evacuate", func() (Plan, error) { return Evacuate(s, "l3", Default()) }},
		{"rebalance", func() (Plan, error) { return Rebalance(s, Default()) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var p Plan
			for b.Loop() {
				var err error
				if p, err = bench.plan(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(p.Moves)), "moves")
			b.ReportMetric(float64(len(p.Refusals)), "refusals")
			b.ReportMetric(p.SpreadBefore, "spread-before")
			b.ReportMetric(p.SpreadAfter, "spread-after")
			b.ReportMetric(float64(p.Total().Bytes)/1e9, "GB")
		})
	}
}
