package main

import (
	"context"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// released is a directory of lines 1 to last. Its processes with old are of the release that
// did not know the order newest; the first question goes to the first of them.
type released struct {
	api
	last int64
	old  []bool
}

func (d *released) NewestAudit(_ context.Context, _ string, from int64, limit int) ([]directory.AuditEntry, error) {
	old := d.old[0]
	d.old = append(d.old[1:], old)
	next, step := d.last, int64(-1)
	if from != 0 {
		next = from - 1
	}
	if old {
		next, step = from+1, 1
	}
	var page []directory.AuditEntry
	for ; next >= 1 && next <= d.last && len(page) < limit; next += step {
		page = append(page, directory.AuditEntry{ID: next})
	}
	return page, nil
}

// TestTheOldestLinesAreNotTakenForTheNewest of a directory that is older than cellctl, nor
// where only one of its processes is: a copy of the lines would end, or go on, for nothing.
func TestTheOldestLinesAreNotTakenForTheNewest(t *testing.T) {
	t.Parallel()
	const lines = 10 * pageSize
	for name, tt := range map[string]struct {
		after int64
		limit int
		old   []bool
	}{
		"the newest":         {0, 100, []bool{true}},
		"after one":          {120, 0, []bool{true}},
		"between two, first": {0, 0, []bool{true, false}},
		"between two, then":  {0, 0, []bool{false, true}},
	} {
		got, _, err := newestAudit(t.Context(), &released{last: lines, old: tt.old}, "", tt.after, tt.limit)
		if problem.KindOf(err) != problem.Conflict {
			t.Errorf("%s: got %d lines and %v, want a conflict", name, len(got), err)
		}
	}
	got, more, err := newestAudit(t.Context(), &released{last: lines, old: []bool{false}}, "", 120, 0)
	if err != nil || more || len(got) != lines-120 || got[0].ID != lines {
		t.Errorf("of today: got %d lines, more %v, %v", len(got), more, err)
	}
}
