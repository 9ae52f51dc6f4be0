package planner

import (
	"math"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// A time that is too long for its type is the longest one. It would turn negative, and
// so be within every budget.
func TestAForecastIsNeverNegative(t *testing.T) {
	t.Parallel()
	s := State{Cells: []Cell{with(ready("c1"), func(c *Cell) { c.Limit = Load{} }), with(ready("c2"), func(c *Cell) { c.Limit = Load{} })}}
	huge := func(id directory.TenantID, budget time.Duration) Tenant {
		n := resident(id, "c1", 1e15) // as a cell that has lost its mind reports it
		n.Load.Bytes, n.Budget = math.MaxInt64/4, budget
		return n
	}
	s.Tenants = []Tenant{huge(1, time.Minute), huge(2, Unlimited), huge(3, Unlimited)}
	p, err := Drain(s, "c1", Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Refusals) != 1 || p.Refusals[0].Tenant != 1 || p.Refusals[0].Reason != NoBudget {
		t.Errorf("got refusals %+v, want tenant 1: its pause is longer than its budget", p.Refusals)
	}
	for _, m := range p.Moves {
		if m.Forecast.Pause < 0 || m.Forecast.Duration < 0 {
			t.Errorf("got %+v", m)
		}
	}
	if sum := p.Total(); sum.Pause < 0 || sum.Duration < 0 {
		t.Errorf("total: got %+v", sum)
	}
}
