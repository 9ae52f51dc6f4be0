package transfer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// scrub compares both copies of a move that watches, as a mover does.
func scrub(t *testing.T, a, b *cell, m transfer.Move) transfer.Comparison {
	t.Helper()
	return scrubUpTo(t, a, b, m, 1<<20)
}

// scrubUpTo is scrub where the changed keys have so many bytes at most.
func scrubUpTo(t *testing.T, a, b *cell, m transfer.Move, most int64) transfer.Comparison {
	t.Helper()
	here, err := transfer.Unchanged(t.Context(), b.mover, m, most)
	must(t, err)
	kept, err := transfer.Kept(t.Context(), a.mover, m, here.Keys)
	must(t, err)
	return transfer.Compare(here, kept)
}

// TestScrubFindsDamageAndNothingElse: what the tenant changes after the switch is
// no difference; a row that nobody changed through the fence is one, on either side.
func TestScrubFindsDamageAndNothingElse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := pair(t)
	steps(t, a, b, there)
	c := scrub(t, a, b, there)
	if len(c.Differ) > 0 || c.Rows == 0 {
		t.Fatalf("after the switch: got %+v", c)
	}
	must(t, b.do(t, mover, 2, `UPDATE app.part SET label = 'new' WHERE no = (SELECT min(no) FROM app.part)`))
	must(t, b.do(t, mover, 2, `DELETE FROM app.event WHERE no = (SELECT min(no) FROM app.event)`))
	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = v + 1`))
	after := scrub(t, a, b, there)
	if len(after.Differ) > 0 || after.Rows >= c.Rows {
		t.Errorf("after changes: got %+v, want fewer rows than %d and no difference", after, c.Rows)
	}
	for name, side := range map[string]*cell{"source": a, "target": b} {
		damage := `ALTER TABLE app.part DISABLE TRIGGER ALL; UPDATE app.part SET code = code || '!' WHERE tenant_id = 7 AND no = (SELECT max(no) FROM app.part)`
		if _, err := side.owner.Exec(ctx, damage); err != nil {
			t.Fatal(err)
		}
		if got := scrub(t, a, b, there); !slices.Equal(got.Differ, []string{"app.part"}) {
			t.Errorf("damage at the %s: got %+v", name, got)
		}
		if _, err := side.owner.Exec(ctx, `UPDATE app.part SET code = rtrim(code, '!') WHERE tenant_id = 7`); err != nil {
			t.Fatal(err)
		}
	}
	// Tables of which too many rows have changed are left out, and said to be: the others count.
	if got := scrubUpTo(t, a, b, there, 1); len(got.Differ) > 0 || !slices.Contains(got.Left, "app.part") || got.Tables == 0 || got.Rows >= after.Rows {
		t.Errorf("no room for keys: got %+v", got)
	}
	other := there
	other.ID = "mv_other"
	if _, err := transfer.Unchanged(ctx, b.mover, other, 1<<20); !errors.Is(err, problem.Conflict) {
		t.Errorf("another move's: got %v, want a conflict", err)
	}
	if _, err := transfer.Kept(ctx, b.mover, there, nil); !errors.Is(err, problem.Conflict) {
		t.Errorf("the kept copy of the cell that serves: got %v, want a conflict", err)
	}
}

// TestAComparisonFitsIntoAReport: the directory takes none of more than 32 KiB, however many tables differ, and a move whose
// comparison is not recorded would be compared for ever.
func TestAComparisonFitsIntoAReport(t *testing.T) {
	t.Parallel()
	part := transfer.Part{Digests: map[string]transfer.Digest{}, Keys: map[string]json.RawMessage{}}
	for i := range 5000 {
		part.Digests[fmt.Sprintf("a_schema_of_a_long_name.a_table_whose_name_is_long_%d", i)] = transfer.Digest{Rows: 1}
		part.Keys[fmt.Sprintf("a_schema_of_a_long_name.another_whose_name_is_long_%d", i)] = json.RawMessage("null")
	}
	c := transfer.Compare(part, nil)
	text, err := json.Marshal(c)
	must(t, err)
	if last := c.Differ[len(c.Differ)-1]; len(text) > 16<<10 || c.Tables != 5000 || last != "and 4900 more" {
		t.Errorf("got %d bytes about %d tables, the last %q", len(text), c.Tables, last)
	}
}
