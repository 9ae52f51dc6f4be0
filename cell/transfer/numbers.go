package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/problem"
)

// withGiven is list with what the tables' sequences have given last, where they have given any. It is of now, and not of the
// transaction's snapshot: no number that the tenant has had of them, also of a row that is gone, is above it.
func withGiven(ctx context.Context, tx pgx.Tx, list []Table) ([]Table, error) {
	var names []string
	for _, t := range list {
		names = append(names, t.Numbers...)
	}
	if len(names) == 0 {
		return list, nil
	}
	rows, err := tx.Query(ctx, `SELECT pg_catalog.pg_sequence_last_value(s::regclass) FROM unnest($1::text[]) s`, names)
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	last, err := pgx.CollectRows(rows, pgx.RowTo[*int64])
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	list = slices.Clone(list) // it is everybody's
	for i := range list {
		t := &list[i]
		t.given = map[string]int64{}
		for n, col := range t.Counted {
			if last[n] != nil {
				t.given[col] = *last[n]
			}
		}
		last = last[len(t.Counted):]
	}
	return list, nil
}

// sequenceMargin is added when a sequence is raised, because others in the cell
// draw from it between our look and our step: it must never be set back. A thousand times
// as much, or a tenth of a small sequence, must be left behind the tenant's numbers: a
// move must not use up what is everybody's. An undo must leave them one: the way back
// stays open.
const sequenceMargin = 1000

// raiseSequences makes every number that the table's own sequences will give
// here greater than those that came with the round: what came before was raised for then,
// and no index has to know the greatest of all; and, where they have very many, greater than those that the source's have given, also
// to rows that are gone. Near its end a sequence is raised
// by half of what it has left at most; at its end, which nobody could take back, it is
// left as it is, and the round is a Conflict.
func (s Step) raiseSequences(ctx context.Context, tx pgx.Tx, p part, from string, args ...any) error {
	t := p.table
	for i, col := range t.Counted {
		var given, raised *int64
		if last, ok := p.given[col]; ok {
			given = &last
		}
		err := tx.QueryRow(ctx, t.raise(i, from, len(args)), append(args[:len(args):len(args)], t.Numbers[i], sequenceMargin, s.Undo, given)...).Scan(&raised)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // it is above them
		case err != nil:
			return fmt.Errorf("raise the sequence of %s: %w", col, err)
		case raised == nil:
			return problem.New(problem.Conflict, "the tenant's numbers in %s of %s are near the end of its sequence, and would leave the target's other tenants next to none "+
				"(fix: make column and sequence bigint, or give those rows other numbers)", col, t.Label)
		}
	}
	return nil
}

// raise is raiseSequences for the i-th counted column and the rows t of from, which has n parameters; the sequence,
// the margin, whether it is an undo, and what the source's has given follow. No row: there is nothing to raise; NULL: it would be used up. What the
// sequence has given last, or begins with where it has given none, is read when the tenant's greatest number is known: others
// draw meanwhile. What the source's has given is mostly other tenants': it counts only where 2^40 numbers are left behind it, so
// that cells do not use up each other's.
func (t Table) raise(i int, from string, n int) string {
	return fmt.Sprintf(`
		SELECT CASE WHEN q.seqmax::numeric - m.max >= greatest(3 * by.one, CASE WHEN $%[6]d THEN 0 ELSE least(1000 * $%[5]d::bigint * by.one, (q.seqmax::numeric - q.seqmin) / 10) END)
		            THEN pg_catalog.setval(q.seqrelid, m.max + least($%[5]d::bigint * by.one, (q.seqmax - greatest(m.max, 0)) / 2 + 1, q.seqmax - greatest(m.max, 0))::bigint) END
		  FROM pg_catalog.pg_sequence q
		 CROSS JOIN LATERAL (SELECT q.seqincrement::numeric) AS by (one)
		 CROSS JOIN LATERAL (SELECT greatest((max(t.%[1]s) FILTER (WHERE t.%[1]s BETWEEN q.seqmin AND q.seqmax))::bigint,
		                                     CASE WHEN q.seqmax::numeric - $%[7]d::bigint >= by.one * 1099511627776 THEN $%[7]d::bigint END) FROM %[2]s) AS m (max)
		 WHERE q.seqrelid = $%[4]d::text::regclass
		   AND m.max >= (SELECT last_value FROM %[3]s)`, t.Counted[i], from, t.Numbers[i], n+1, n+2, n+3, n+4)
}
