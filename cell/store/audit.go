package store

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// auditSQL lists what would let one tenant see or write another's rows. $1 is
// the role that the application runs as.
//
//go:embed audit.sql
var auditSQL string

// audit fails with every finding about role, "" being the connection's own.
func audit(ctx context.Context, db pg.DB, role string) error {
	rows, err := db.Query(ctx, auditSQL, role)
	if err != nil {
		return fmt.Errorf("audit database: %w", err)
	}
	findings, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("audit database: %w", err)
	}
	if len(findings) > 0 {
		return fmt.Errorf("the database does not keep tenants apart: %s", strings.Join(findings, "; "))
	}
	return nil
}
