package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/problem"
)

// rewritten finds a tenant table that is another one than in the transaction's snapshot. pg_class is read as it was
// then, what the functions tell is of now.
const rewritten = `
	SELECT format('%I.%I', n.nspname, c.relname)
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE c.relforcerowsecurity AND c.relkind IN ('r', 'p')
	   AND (c.relkind = 'r' AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
	        OR (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity IS DISTINCT FROM format('%I.%I', n.nspname, c.relname))
	 LIMIT 1`

// asTheyWere is Unavailable where what a transaction has read, under one snapshot, may lack rows: a table that is rewritten
// (ALTER COLUMN TYPE, a rebuilt one in its place), is empty to every snapshot from before, and nothing was noted. Tables
// that the transaction has read stay as they are until it ends; so it asks last.
func asTheyWere(ctx context.Context, tx pgx.Tx) error {
	var table string
	err := tx.QueryRow(ctx, rewritten).Scan(&table)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look for rewritten tables: %w", err)
	}
	return problem.New(problem.Unavailable, "table %s was rewritten while the tenant was read: ask again", table)
}
