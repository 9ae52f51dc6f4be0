// Package resource has what the operations of modules have in common: ids of things that
// clients see, entity tags of their versions, and lists that come in pages. It keeps to
// what the contract says of ETag, If-Match, limit, cursor and Link.
package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/problem"
)

// One reads the row of a statement that gives at most one, its columns by the names of
// T's fields; what it is named in the NotFound of none.
func One[T any](ctx context.Context, tx *store.Tx, what, sql string, args ...any) (T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, fmt.Errorf("query %s: %w", what, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[T])
	if errors.Is(err, pgx.ErrNoRows) {
		return v, problem.New(problem.NotFound, "no such %s", what)
	}
	if err != nil {
		return v, fmt.Errorf("query %s: %w", what, err)
	}
	return v, nil
}

// Or is what an optional member or parameter of a request says, def where it is not there.
func Or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
