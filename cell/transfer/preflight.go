package transfer

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// A Finding is a reason not to move, with what would take it away.
type Finding struct {
	Code  string `json:"code"`  // stable, such as "no-primary-key"
	Table string `json:"table"` // what it is about, "" for the whole cell
	Why   string `json:"why"`
	Fix   string `json:"fix"`
}

// A Report is what a cell says before a move: what would make it unsafe, what its
// schema is, and how much there is to move.
type Report struct {
	Fingerprint string    `json:"fingerprint"` // of everything that both cells must have alike
	Findings    []Finding `json:"findings"`
	Rows        int64     `json:"rows"`  // of the tenant, all tables; at most SizeLimit are counted per table
	Bytes       int64     `json:"bytes"` // estimate from the tables' mean row width
}

// preflightSQL lists the findings of the cell's schema: code, table, why, fix.
//
//go:embed preflight.sql
var preflightSQL string

// fingerprintSQL makes one text of everything that source and target must have alike.
//
//go:embed fingerprint.sql
var fingerprintSQL string

// SizeLimit is where Preflight stops counting a table's rows: it has to tell small
// tenants from large ones, not to count the large ones.
const SizeLimit = 1_000_000

// Preflight looks for what would make a move of the tenant unsafe, before a row is
// copied. No findings and equal fingerprints mean that it may begin.
func Preflight(ctx context.Context, db pg.DB, tenant directory.TenantID) (Report, error) {
	var r Report
	found, err := findings(ctx, db, preflightSQL)
	if err != nil {
		return r, fmt.Errorf("preflight: %w", err)
	}
	r.Findings = found
	if err := db.QueryRow(ctx, fingerprintSQL).Scan(&r.Fingerprint); err != nil {
		return r, fmt.Errorf("preflight: fingerprint: %w", err)
	}
	list, err := Tables(ctx, db)
	if err != nil {
		return r, err
	}
	for _, t := range list {
		sql := fmt.Sprintf(`SELECT count(*), coalesce(sum(pg_column_size(t)), 0) FROM (SELECT * FROM %s WHERE tenant_id = $1 LIMIT %d) t`, t.Name, SizeLimit)
		var rows, size int64
		if err := db.QueryRow(ctx, sql, tenant).Scan(&rows, &size); err != nil {
			return r, fmt.Errorf("preflight: measure %s: %w", t.Label, err)
		}
		r.Rows, r.Bytes = r.Rows+rows, r.Bytes+size
	}
	return r, nil
}

func findings(ctx context.Context, db pg.DB, sql string, args ...any) ([]Finding, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
}
