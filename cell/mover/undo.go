package mover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// unsound says why an undo must not begin with the copy that its target has kept, or "". The keys that were noted since
// the switch are those of the tables as they were, and what each cell has made up for a column that came since was
// not noted; what a comparison found to differ was not noted either.
func (w *work) unsound(ctx context.Context) (why string, err error) {
	undone, err := w.dir.Move(ctx, w.move.Undoes)
	if err != nil {
		return "", fmt.Errorf("find the move that is undone: %w", err)
	}
	var was Report
	_ = json.Unmarshal(undone.Report, &was) // one that cannot be read tells of no schema
	switch {
	case was.Schema != w.facts.Schema:
		return "the schema is not known to be the one of the switch", nil
	case was.Files.rewritten(w.report.Files) != "":
		return "a table was rewritten since the preflight of the move", nil
	case len(was.Comparison.Differ) > 0:
		return "a comparison found the kept copy to differ", nil
	}
	return "", nil
}

// checkKept is unsound asked again before the freeze, where the target did begin with its copy: a comparison may
// have ended since.
func (w *work) checkKept(ctx context.Context, m transfer.Move) error {
	if m.Undoes == "" || w.report.Whole {
		return nil
	}
	why, err := w.unsound(ctx)
	if err != nil || why == "" {
		return err
	}
	return problem.New(problem.Conflict, "the undo began with the copy that %s kept: %s (fix: undo again, it copies everything then)", m.Target, why)
}

// errRewritten says that a move has met another table than it began with, under the same schema: VACUUM FULL, CLUSTER, pg_repack
// and ALTER ... SET TABLESPACE do that, and whoever does has no move in mind. It is tried again from its beginning.
var errRewritten = errors.New("a table was rewritten")

// files are what each cell said of where the rows of its tables are.
type files map[directory.CellID]string

// rewritten is a cell of which a table was rewritten since, as by ALTER COLUMN ... USING: its schema is the same, and no key
// of what that has changed was noted. Of a cell of an older release, which does not say, nothing is known.
func (f files) rewritten(now files) directory.CellID {
	for c, was := range f {
		if was != "" && now[c] != "" && now[c] != was {
			return c
		}
	}
	return ""
}
