package transfer

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Verify checks at the target, before the freeze, what hashes do not show: that
// every foreign key finds its row, for foreign keys are not checked while rows
// arrive, and that the tenant's events have no gap.
func Verify(ctx context.Context, pool *pgxpool.Pool, s Step) ([]Finding, error) {
	var found []Finding
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := enterMove(ctx, tx, s, "incoming"); err != nil {
			return err
		}
		keys, err := foreignKeys(ctx, tx)
		if err != nil {
			return err
		}
		if err := bySets(ctx, tx); err != nil {
			return err
		}
		for _, k := range keys {
			var orphans int64
			if err := tx.QueryRow(ctx, k.orphans(), s.Tenant).Scan(&orphans); err != nil {
				return fmt.Errorf("check foreign key %s: %w", k.Name, err)
			}
			if orphans > 0 {
				found = append(found, Finding{
					Code: "orphans", Table: k.From, Why: fmt.Sprintf("%d rows whose foreign key %s finds nothing", orphans, k.Name),
					Fix: "mend the rows at the source, then begin again",
				})
			}
		}
		gaps, err := findings(ctx, tx, outboxGaps, s.Tenant)
		found = append(found, gaps...)
		return err
	})
	return found, err
}

// outboxGaps finds events that are missing between the oldest one kept and the newest.
const outboxGaps = `
	SELECT 'outbox-gap', 'cell.outbox', format('%s events between %s and %s', count(*), min(seq), max(seq)), 'find out who deleted events at the source'
	  FROM cell.outbox WHERE tenant_id = $1
	HAVING count(*) <> coalesce(max(seq) - min(seq) + 1, 0)`

// A foreignKey is one between two tenant tables.
type foreignKey struct {
	Name, From, To   string
	Here, There, Ops []string // columns; of There with their collation; what is asked of both, There first
}

// foreignKeySQL lists them, also those of a single partition. A key's columns are compared by its own operators, under the
// collation of what it points at: a session of ours finds no operator of an extension, and of two collations neither.
const foreignKeySQL = `
	SELECT k.conname, k.conrelid::regclass::text, k.confrelid::regclass::text,
	       ARRAY(SELECT quote_ident(a.attname) FROM unnest(k.conkey) WITH ORDINALITY u (n, o) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY o),
	       ARRAY(SELECT quote_ident(a.attname) || coalesce(' COLLATE ' || quote_ident(s.nspname) || '.' || quote_ident(l.collname), '')
	               FROM unnest(k.confkey) WITH ORDINALITY u (n, o) JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n
	               LEFT JOIN (pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace) ON l.oid = a.attcollation ORDER BY o),
	       ARRAY(SELECT format('OPERATOR(%I.%s)', s.nspname, p.oprname)
	               FROM unnest(k.conpfeqop) WITH ORDINALITY u (n, o) JOIN pg_operator p ON p.oid = u.n JOIN pg_namespace s ON s.oid = p.oprnamespace ORDER BY o)
	  FROM pg_constraint k
	  JOIN pg_class c ON c.oid = k.conrelid AND c.relforcerowsecurity
	 WHERE k.contype = 'f' AND k.conparentid = 0`

func foreignKeys(ctx context.Context, tx pgx.Tx) ([]foreignKey, error) {
	rows, err := tx.Query(ctx, foreignKeySQL)
	if err != nil {
		return nil, fmt.Errorf("list foreign keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foreignKey])
	if err != nil {
		return nil, fmt.Errorf("list foreign keys: %w", err)
	}
	return keys, nil
}

// orphans counts rows that reference nothing. A key with a NULL in it references
// nothing by right.
func (k foreignKey) orphans() string {
	var on, set []string
	for i, h := range k.Here {
		on = append(on, fmt.Sprintf("r.%s %s t.%s", k.There[i], k.Ops[i], h))
		set = append(set, fmt.Sprintf("t.%s IS NOT NULL", h))
	}
	return fmt.Sprintf("SELECT count(*) FROM %s t WHERE t.tenant_id = $1 AND %s AND NOT EXISTS (SELECT FROM %s r WHERE %s)",
		k.From, strings.Join(set, " AND "), k.To, strings.Join(on, " AND "))
}
