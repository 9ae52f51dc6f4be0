package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Comparison is of the two copies of a tenant whose move watches: of all rows
// that have not changed at the target since the switch. Rows that differ were
// damaged on one side; nobody wrote them.
type Comparison struct {
	Tables int      `json:"tables"`
	Rows   int64    `json:"rows"`             // compared by hash
	Differ []string `json:"differ,omitempty"` // tables whose rows are not the same
	Left   []string `json:"left,omitempty"`   // tables of which too many rows have changed to name them: not compared
	Failed string   `json:"failed,omitempty"` // why the copies could not be compared
}

// A Part is what one cell has of a tenant, but for some keys.
type Part struct {
	Digests map[string]Digest          `json:"digests"` // by table
	Keys    map[string]json.RawMessage `json:"keys"`    // by table: the keys left out, a JSON array each; null: all of the table is
}

// left is the tables that are left out.
func (p Part) left() (tables []string) {
	for table, keys := range p.Keys {
		if string(keys) == leftOut {
			tables = append(tables, table)
		}
	}
	return tables
}

const leftOut = "null"

// Unchanged hashes, at the target of a watching move, what was not changed since
// the switch. Of tables whose changed keys do not fit into so many bytes, the largest ones,
// nothing is hashed. Conflict where the fence is not what the move has left.
func Unchanged(ctx context.Context, pool *pgxpool.Pool, m Move, most int64) (p Part, err error) {
	err = inSnapshot(ctx, pool, func(tx pgx.Tx) error {
		const ours = `SELECT FROM cell.fence WHERE tenant_id = $1 AND move_id = $2 AND state = 'active' AND capture`
		if err := watches(ctx, tx, m, ours); err != nil {
			return err
		}
		if p.Keys, err = notedKeys(ctx, tx, m.Tenant, most); err != nil {
			return err
		}
		p.Digests, err = digestsBut(ctx, tx, m.Tenant, p.Keys)
		return err
	})
	return p, err
}

// Kept hashes, at the source of a watching move, the copy that is kept there, but
// for the keys given. Conflict where the fence is not what the move has left.
func Kept(ctx context.Context, pool *pgxpool.Pool, m Move, keys map[string]json.RawMessage) (d map[string]Digest, err error) {
	err = inSnapshot(ctx, pool, func(tx pgx.Tx) error {
		const kept = `SELECT FROM cell.fence WHERE tenant_id = $1 AND move_id = $2 AND state = 'moved'`
		if err := watches(ctx, tx, m, kept); err != nil {
			return err
		}
		d, err = digestsBut(ctx, tx, m.Tenant, keys)
		return err
	})
	return d, err
}

func (s *Server) unchanged(ctx context.Context, r Request) (any, error) {
	return Unchanged(ctx, s.Pool, r.Move, maxKept*3/4)
}

func (s *Server) kept(ctx context.Context, r Request) (any, error) {
	return Kept(ctx, s.Pool, r.Move, r.Keys)
}

// Compare tells where two copies differ.
func Compare(part Part, there map[string]Digest) Comparison {
	here := part.Digests
	c := Comparison{Left: part.left()}
	for table, d := range here {
		c.Tables, c.Rows = c.Tables+1, c.Rows+d.Rows
		if there[table] != d {
			c.Differ = append(c.Differ, table)
		}
	}
	for table := range there {
		if _, ok := here[table]; !ok {
			c.Differ = append(c.Differ, table)
		}
	}
	c.Differ, c.Left = named(c.Differ), named(c.Left)
	return c
}

// mostNamed is how many tables a comparison names: the directory keeps so much of a report, and takes none that is longer.
const mostNamed = 100

// named is the tables, sorted, and how many more there are.
func named(tables []string) []string {
	slices.Sort(tables)
	if more := len(tables) - mostNamed; more > 0 {
		tables = append(tables[:mostNamed:mostNamed], fmt.Sprintf("and %d more", more))
	}
	return tables
}

func inSnapshot(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return asTheyWere(ctx, tx)
	})
}

func watches(ctx context.Context, tx pgx.Tx, m Move, query string) error {
	tag, err := tx.Exec(ctx, query, m.Tenant, string(m.ID))
	if err != nil {
		return fmt.Errorf("read the fence: %w", err)
	}
	if tag.RowsAffected() != 1 {
		return problem.New(problem.Conflict, "the fence of tenant %d is not as move %s has left it", m.Tenant, m.ID)
	}
	return nil
}

// notedKeys is what the tenant has changed since it is armed, by table; leftOut where that is
// too much.
func notedKeys(ctx context.Context, tx pgx.Tx, tenant directory.TenantID, most int64) (map[string]json.RawMessage, error) {
	keys, fit, err := sizedKeys(ctx, tx, tenant, most)
	if err != nil {
		return nil, fmt.Errorf("read noted keys: %w", err)
	}
	rows, err := tx.Query(ctx, `SELECT tbl, jsonb_agg(DISTINCT pk)::text FROM cell.dirty WHERE tenant_id = $1 AND tbl = ANY ($2) GROUP BY tbl`, tenant, fit)
	if err != nil {
		return nil, fmt.Errorf("read noted keys: %w", err)
	}
	var table, list string
	_, err = pgx.ForEachRow(rows, []any{&table, &list}, func() error {
		keys[table] = json.RawMessage(list)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read noted keys: %w", err)
	}
	return keys, nil
}

// sizedKeys is the tables whose noted keys fit into most bytes, the smallest first, and as
// leftOut the others.
func sizedKeys(ctx context.Context, tx pgx.Tx, tenant directory.TenantID, most int64) (others map[string]json.RawMessage, fit []string, err error) {
	rows, err := tx.Query(ctx, `
		SELECT k.tbl, sum(octet_length(k.pk::text) + 1)::bigint
		  FROM (SELECT DISTINCT tbl, pk FROM cell.dirty WHERE tenant_id = $1) k
		 GROUP BY k.tbl ORDER BY 2`, tenant)
	if err != nil {
		return nil, nil, err
	}
	others = map[string]json.RawMessage{}
	var table string
	var size, sum int64
	_, err = pgx.ForEachRow(rows, []any{&table, &size}, func() error {
		if sum += size; sum > most {
			others[table] = json.RawMessage(leftOut)
		} else {
			fit = append(fit, table)
		}
		return nil
	})
	return others, fit, err
}

// digestsBut hashes a tenant's rows, by table, but for those with the keys given.
func digestsBut(ctx context.Context, tx pgx.Tx, tenant directory.TenantID, keys map[string]json.RawMessage) (map[string]Digest, error) {
	list, err := Tables(ctx, tx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Digest, len(list))
	for _, t := range list {
		if string(keys[t.Label]) == leftOut {
			continue
		}
		sql, args := fmt.Sprintf("SELECT %s FROM %s t WHERE t.tenant_id = $1", t.digest(), t.Name), []any{tenant}
		if but := keys[t.Label]; but != nil {
			sql += fmt.Sprintf(" AND NOT EXISTS (SELECT FROM jsonb_array_elements($2::jsonb) k(pk) WHERE true%s)", t.keyed("k.pk"))
			args = append(args, string(but))
		}
		d, err := scanDigest(tx.QueryRow(ctx, sql, args...))
		if err != nil {
			return nil, fmt.Errorf("hash %s: %w", t.Label, err)
		}
		out[t.Label] = d
	}
	return out, nil
}
