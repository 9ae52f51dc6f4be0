package transfer

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// Touched is the first statement of a round that reads the noted keys.
const Touched = touched

// Noted is the first statement of a round of few keys.
const Noted = noted

// Copying takes a place for a whole copy.
func (s *Source) Copying() (end func(), err error) { return s.copying() }

// Begin counts a stream until it ends.
func (p *Pace) Begin() (end func()) { return p.begin() }

// Take waits as the first piece of a stream does.
func (p *Pace) Take(ctx context.Context, rows, n int) error {
	return (&toll{ctx: ctx, p: p}).take(rows, n)
}

// RowsIn is how many rows the pieces of a table's COPY data are counted as.
func RowsIn(t Table, pieces ...[]byte) (rows int) {
	c := countRows(t)
	for _, b := range pieces {
		rows += c.in(b)
	}
	return rows
}

// Copying is a copy's stream, read in turns.
func (p *Pace) Copying(ctx context.Context, stream io.Reader) (r io.Reader, done func(), err error) {
	c, err := p.copying(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	return c, c.done, nil
}

// What a turn is.
const (
	TurnBytes  = turnBytes
	TurnAtMost = turnAtMost
)

// StreamEverything makes the source's rounds stream, however few their keys.
func (s *Source) StreamEverything() { s.few = -1 }

// HoldKeys bounds the keys that a table of a round brings at once, in bytes.
func (s *Source) HoldKeys(most int) { s.held = most }

// Scans reports whether the rows of so many keys of the table are found by reading it.
func Scans(ctx context.Context, tx pgx.Tx, t Table, keys int64) (bool, error) {
	found, err := t.foundBy(ctx, tx, keys)
	if err != nil {
		return false, err
	}
	return found("x", "1") == t.scanned("x", "1"), nil
}

// PlanOfFew and PlanOfMany are how the rows of keys of the table are deleted, where they
// are few and where they are many and looked up.
func PlanOfFew(ctx context.Context, tx pgx.Tx, t Table) ([]string, error) {
	if _, err := tx.Exec(ctx, keptPlans); err != nil {
		return nil, err
	}
	return planOf(ctx, tx, t.deleteKeyed(), `jsonb '[["1", "k1"]]'`)
}

func PlanOfMany(ctx context.Context, tx pgx.Tx, t Table) ([]string, error) {
	if _, err := tx.Exec(ctx, manyPlans); err != nil {
		return nil, err
	}
	found, err := t.foundBy(ctx, tx, 0)
	if err != nil {
		return nil, err
	}
	return planOf(ctx, tx, t.deleteFrom(found(keyLists, "$1")), `ARRAY['[["1", "k1"]]']`)
}

// OrphansSQL counts a tenant's rows that reference nothing, in tx.
func OrphansSQL(ctx context.Context, tx pgx.Tx) (string, error) {
	keys, err := foreignKeys(ctx, tx)
	if err != nil {
		return "", err
	}
	return keys[0].orphans(), bySets(ctx, tx)
}

func planOf(ctx context.Context, tx pgx.Tx, sql, keys string) ([]string, error) {
	rows, err := tx.Query(ctx, "EXPLAIN "+strings.NewReplacer("$1", "7", "$2", keys).Replace(sql))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Arrived is how a round waits for the tenant's keys.
var Arrived = arrived

// A TableCache is what the source, the target and the purger remember of the catalog.
type TableCache = tableCache

// Get is the list of tables, as a round asks for it.
func (c *tableCache) Get(ctx context.Context, db pg.DB, fresh bool) ([]Table, error) {
	return c.get(ctx, db, fresh)
}

// Refused tells that the server has refused a statement.
func (c *tableCache) Refused(err error) { c.refused(err) }

// MeasureSQL counts a tenant's rows and bytes.
var MeasureSQL = measureSQL

// CountUpTo bounds the rows of a table that are counted.
func (p *Preflight) CountUpTo(limit int) { p.limit = limit }

// MeasuredMost is how many tenants are measured at once.
const MeasuredMost = measuredMost

// How the statements of a round of few keys, and of many, are planned.
const (
	KeptPlans = keptPlans
	ManyPlans = manyPlans
)

// TakenWithin bounds what readers of rounds may take for a frame.
func (s *Server) TakenWithin(d time.Duration) { s.taken = d }
