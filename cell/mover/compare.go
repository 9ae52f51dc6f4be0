package mover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// compare looks whether the two copies of a watching move are still the same, where
// nobody has changed them. Only where the schema is one is a difference damage.
func (w *work) compare(ctx context.Context, m transfer.Move, src, dst Cell) error {
	schema, _, err := w.alike(ctx, m, src, dst)
	if err != nil {
		return err
	}
	here, err := dst.Unchanged(ctx, m)
	if err != nil {
		return fmt.Errorf("compare: %s: %w", m.Target, err)
	}
	kept, err := src.Kept(ctx, m, here.Keys)
	if err != nil {
		return fmt.Errorf("compare: %s: %w", m.Source, err)
	}
	found := transfer.Compare(here, kept)
	if len(found.Differ) > 0 {
		if err := w.mayDiffer(ctx, m, src, dst, schema, found.Differ); err != nil {
			return err
		}
		w.log.ErrorContext(ctx, "the two copies of a tenant differ", "tables", found.Differ)
	}
	w.report.Compared, w.report.Comparison = time.Now(), found
	return nil
}

// mayDiffer is an error where a difference that was found while both cells had the schema before says nothing: one was
// altered meanwhile, or both since the switch, as by a column whose default each cell makes up.
func (w *work) mayDiffer(ctx context.Context, m transfer.Move, src, dst Cell, before string, tables []string) error {
	schema, now, err := w.alike(ctx, m, src, dst)
	switch {
	case err != nil:
		return err
	case schema != before:
		return problem.New(problem.Unavailable, "compare: the schema was altered meanwhile")
	case schema != w.report.Schema:
		return problem.New(problem.Conflict, "compare: rows of %s differ, but the schema was altered since the switch: it may be that alone", strings.Join(tables, ", "))
	case w.report.Files.rewritten(now) != "":
		return problem.New(problem.Conflict, "compare: rows of %s differ, but a table was rewritten since the switch: it may be that alone", strings.Join(tables, ", "))
	}
	return nil
}

// errTwoReleases says that the copies cannot be compared yet.
var errTwoReleases = errors.New("the cells are of two releases")

// alike is the fingerprint of both cells, and their files. Unavailable where they have different ones: cells come to a release one
// after the other, and do not hash alike meanwhile.
func (w *work) alike(ctx context.Context, m transfer.Move, src, dst Source) (string, files, error) {
	here, err := dst.Preflight(ctx, m, false)
	if err != nil {
		return "", nil, fmt.Errorf("compare: %s: %w", m.Target, err)
	}
	there, err := src.Preflight(ctx, m, false)
	if err != nil {
		return "", nil, fmt.Errorf("compare: %s: %w", m.Source, err)
	}
	if here.Fingerprint != there.Fingerprint {
		return "", nil, problem.Wrap(problem.Unavailable, errTwoReleases, fmt.Sprintf("compare: the schemas of %s and %s differ: once both are of one release", m.Source, m.Target))
	}
	return here.Fingerprint, files{m.Target: here.Files, m.Source: there.Files}, nil
}
