package directorytest

import (
	"math"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// testLoad: a report replaces the one before, is nobody's mutation, and is as it
// was told.
func testLoad(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	report := func(loads ...directory.TenantLoad) func() error {
		return func() error { return s.ReportLoad(s.ctx, "c1", "db-c1", loads) }
	}
	want := func(what string, id directory.CellID, loads ...directory.TenantLoad) {
		t.Helper()
		got, err := s.CellLoad(s.ctx, id)
		if err != nil || len(got) != len(loads) {
			t.Fatalf("%s: got %+v, %v, want %+v", what, got, err, loads)
		}
		for i := range got {
			if got[i].At.IsZero() {
				t.Errorf("%s: %+v has no time", what, got[i])
			}
			got[i].At = time.Time{}
			wantEqual(t, what, got[i], loads[i])
		}
	}
	one, two, rest := directory.TenantLoad{Tenant: 1, Requests: 12.5, Busy: 0.25}, directory.TenantLoad{Tenant: 2, Requests: 1}, directory.TenantLoad{Requests: 3}
	want("before any", "c1")
	s.expect(t, "report", 0, 0, report(two, one, rest))
	want("the first", "c1", rest, one, two)
	s.expect(t, "report again", 0, 0, report(two))
	want("the second", "c1", two)
	want("of another cell", "c2")
	for what, bad := range map[string][]directory.TenantLoad{
		"twice":    {one, one},
		"negative": {{Tenant: 1, Requests: -1}},
		"no id":    {{Tenant: -1}},
		"too many": make([]directory.TenantLoad, directory.MostLoads+1),
	} {
		s.refuse(t, what, problem.Invalid, report(bad...))
	}
	if err := directory.CheckLoads([]directory.TenantLoad{{Tenant: 1, Busy: math.NaN()}}); err == nil {
		t.Error("not a number: got no error")
	}
	want("after what was refused", "c1", two)
	s.expect(t, "report nothing", 0, 0, report())
	want("nothing", "c1")
	s.refuse(t, "another incarnation", problem.Conflict, func() error { return s.ReportLoad(s.ctx, "c1", "db-c2", nil) })
	s.refuse(t, "an unknown cell", problem.NotFound, func() error { return s.ReportLoad(s.ctx, "c9", "db-c9", nil) })
	_, err := s.CellLoad(s.ctx, "c9")
	wantKind(t, "load of an unknown cell", err, problem.NotFound)
}
