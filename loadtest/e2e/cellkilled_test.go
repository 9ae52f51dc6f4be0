package e2e

import (
	"slices"
	"testing"

	"github.com/cellway/cellway/directory"
)

// TestKilledCellHarmsOnlyItsTenants: whatever part of a cell dies with kill -9
// while everybody works, the tenants of the other cells do not see one error,
// and when it is back its own tenants have lost nothing.
func TestKilledCellHarmsOnlyItsTenants(t *testing.T) {
	w := rough.alone(t)
	victim := w.cell(2)
	healthy := []directory.CellID{w.cell(1), w.cell(3)}
	c := w.work(t, 2, w.cell(1), victim, w.cell(3))
	for _, dead := range [][]string{
		{""}, {"-postgres"}, {"-redis"}, {"", "-postgres", "-redis", "-worker"},
	} {
		for _, part := range dead {
			if err := w.Kill(string(victim) + part); err != nil {
				t.Fatal(err)
			}
		}
		for _, cell := range healthy {
			c.more(t, cell, 100)
		}
		// Servers first: they are what the cell needs in order to start.
		for _, part := range []string{"-postgres", "-redis", "", "-worker"} {
			if slices.Contains(dead, part) {
				if err := w.StartProcess(within(t, patience), string(victim)+part); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.more(t, victim, 50)
	}
	c.rest(t)
	c.wantNoFaults(t, healthy...)
	if len(c.rec.Faults(victim)) == 0 {
		t.Error("the killed cell's tenants saw no error at all: nothing was killed")
	}
}
