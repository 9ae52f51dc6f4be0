package testkit

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
)

// RowsRead is how many rows of tables and indexes a statement reads, which is run for it,
// and the plan by which it does. db is a superuser's, and the tables have been analyzed.
func RowsRead(tb testing.TB, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) (rows float64, how string) {
	tb.Helper()
	var raw []byte
	if err := db.QueryRow(tb.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+sql, args...).Scan(&raw); err != nil {
		tb.Fatalf("explain: %v", err)
	}
	var plans []struct{ Plan plan }
	if err := json.Unmarshal(raw, &plans); err != nil {
		tb.Fatalf("explain: %v", err)
	}
	return plans[0].Plan.read(), string(raw)
}

// A plan is a node of what EXPLAIN tells. Its numbers are of one loop.
type plan struct {
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Lost    float64 `json:"Rows Removed by Index Recheck"`
	Loops   float64 `json:"Actual Loops"`
	Plans   []plan
}

// read is what its leaves read, and what the nodes above them throw away.
func (p plan) read() float64 {
	n := (p.Removed + p.Lost) * p.Loops
	if len(p.Plans) == 0 {
		n += p.Rows * p.Loops
	}
	for _, below := range p.Plans {
		n += below.read()
	}
	return n
}
