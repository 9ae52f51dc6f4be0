package transfer

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

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
	Fingerprint string    `json:"fingerprint"`     // of everything that both cells must have alike
	Migrations  string    `json:"migrations"`      // the newest of each module: "api 3, projects 2"; the fingerprint has them in it
	Files       string    `json:"files,omitempty"` // of this cell alone: another one where a tenant table was rewritten
	Findings    []Finding `json:"findings"`
	Rows        int64     `json:"rows"`               // of the tenant, all tables; at most SizeLimit are counted per table
	Bytes       int64     `json:"bytes"`              // of those rows, as they are stored
	AtLeast     bool      `json:"at_least,omitempty"` // a table may have more rows than were counted
}

// preflightSQL lists the findings of the cell's schema: code, table, why, fix.
//
//go:embed preflight.sql
var preflightSQL string

// fingerprintSQL makes one text of everything that source and target must have alike.
//
//go:embed fingerprint.sql
var fingerprintSQL string

// filesSQL stands for where the rows of all tenant tables are.
const filesSQL = `
	SELECT coalesce(md5(string_agg(concat_ws(' ', oid, relfilenode), ',' ORDER BY oid)), '') FROM pg_class WHERE relforcerowsecurity AND relkind = 'r'`

// SizeLimit is where Preflight stops counting a table's rows: it has to tell small
// tenants from large ones, not to count the large ones.
const SizeLimit = 1_000_000

// A Preflight looks for what would make a move unsafe, before a row is copied, and
// remembers what it found for as long as nothing of the schema is altered. The zero
// Preflight is ready.
type Preflight struct {
	mu      sync.Mutex
	version string // of the catalog, the same before and after the schema was read
	schema  Report // without the tenant's rows and bytes
	tables  []Table
	limit   int // in place of SizeLimit, for tests
}

// Report is that of the database behind db. No findings and equal fingerprints mean
// that a move may begin. Where measure is set, and it may, how much the tenant has is in it.
// Unavailable while somebody migrates the database.
func (p *Preflight) Report(ctx context.Context, db pg.DB, tenant directory.TenantID, measure bool) (Report, error) {
	var settled bool
	if err := db.QueryRow(ctx, noneMigrates, pg.MigrateLock).Scan(&settled); err != nil {
		return Report{}, fmt.Errorf("preflight: %w", err)
	}
	if !settled {
		return Report{}, errMigrates
	}
	r, tables, err := p.look(ctx, db)
	if err != nil {
		return r, fmt.Errorf("preflight: %w", err)
	}
	if r.Migrations, err = applied(ctx, db, tables); err != nil {
		return r, fmt.Errorf("preflight: %w", err)
	}
	if r.Migrations != "" {
		r.Fingerprint = fmt.Sprintf("%x", sha256.Sum256([]byte(r.Fingerprint+" "+r.Migrations)))
	}
	open, err := findings(ctx, db, preparedSQL)
	if err != nil {
		return r, fmt.Errorf("preflight: %w", err)
	}
	r.Findings = slices.Concat(r.Findings, open)
	if !measure || len(r.Findings) > 0 {
		return r, nil
	}
	if err := db.QueryRow(ctx, measureSQL(tables, cmp.Or(p.limit, SizeLimit)), tenant).Scan(&r.Rows, &r.Bytes, &r.AtLeast); err != nil {
		return r, fmt.Errorf("preflight: measure: %w", err)
	}
	return r, nil
}

// look finds what is to say of the schema, and its tables. It asks the database without
// the lock: the schema of a table that is altered is waited for, and no other preflight is to
// wait for that.
func (p *Preflight) look(ctx context.Context, db pg.DB) (Report, []Table, error) {
	p.mu.Lock()
	r, list, known := p.schema, p.tables, p.version
	p.mu.Unlock()
	version, err := catalogVersion(ctx, db)
	if err != nil || known == version {
		return r, list, err
	}
	r = Report{}
	if r.Findings, err = findings(ctx, db, preflightSQL); err != nil {
		return r, nil, err
	}
	if err := db.QueryRow(ctx, fingerprintSQL).Scan(&r.Fingerprint); err != nil {
		return r, nil, fmt.Errorf("fingerprint: %w", err)
	}
	if err := db.QueryRow(ctx, filesSQL).Scan(&r.Files); err != nil {
		return r, nil, fmt.Errorf("files of tables: %w", err)
	}
	if list, err = Tables(ctx, db); err != nil {
		return r, nil, err
	}
	if version, err = unchanged(ctx, db, version); err != nil {
		return r, nil, err
	}
	p.mu.Lock()
	p.schema, p.tables, p.version = r, list, version
	p.mu.Unlock()
	return r, list, nil
}

// preparedSQL is the one finding that is none of the schema.
const preparedSQL = `
	SELECT 'prepared-transaction', '', 'prepared transaction ' || gid || ' is open: it would hold up the freeze', 'COMMIT PREPARED or ROLLBACK PREPARED'
	  FROM pg_prepared_xacts WHERE database = current_database()`

// measureSQL counts the tenant's rows, up to limit of a table, and their bytes as they are stored, in all tables with one
// statement. It asks for the size of each column: to that of a whole row everything that is stored apart from it would be fetched.
func measureSQL(list []Table, limit int) string {
	var b strings.Builder
	b.WriteString("SELECT coalesce(sum(n), 0)::bigint, coalesce(sum(size), 0)::bigint, bool_or(n = ")
	fmt.Fprintf(&b, "%d) FROM (SELECT 0 AS n, 0 AS size", limit)
	for _, t := range list {
		size := fmt.Sprintf("%d * count(*)", rowHead)
		for _, col := range t.Columns {
			size += fmt.Sprintf(" + coalesce(sum(pg_column_size(t.%s)), 0)", col)
		}
		fmt.Fprintf(&b, " UNION ALL SELECT count(*), %s FROM (SELECT * FROM %s WHERE tenant_id = $1 LIMIT %d) t", size, t.Name, limit)
	}
	b.WriteString(" OFFSET $1::bigint * 0) u") // that there is a $1 also where there is no table
	return b.String()
}

// rowHead is the bytes of a row besides its columns.
const rowHead = 24

func findings(ctx context.Context, db pg.DB, sql string, args ...any) ([]Finding, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
}
