package transfer

import (
	"fmt"
	"strings"

	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// refused is why the target did not take rows of the table. What Postgres refuses for its
// content, data exceptions (class 22) and violated constraints (23), it will refuse again:
// that is a Conflict. Postgres' own words may hold a value of the tenant's: they are for
// the cell's log only.
func (t Table) refused(err error) error {
	if code := pg.Code(err); strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") {
		return problem.Wrap(problem.Conflict, err,
			fmt.Sprintf("the target's Postgres refuses a row of %s (SQLSTATE %s; the cell's log has its words) (fix: mend the row at the source, or what refuses it)", t.Label, code))
	}
	return fmt.Errorf("receive %s: %w", t.Label, err)
}
