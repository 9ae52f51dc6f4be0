package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/loadtest"
)

// A resting tenant does nothing any more: what others do must not change its rows.
type resting struct {
	id     directory.TenantID
	slug   string
	cell   directory.CellID
	digest string
}

// restingMost bounds how many resting tenants are looked at after each round.
const restingMost = 12

// rest counts what a tenant has written in the report and remembers its rows.
func (r *run) rest(ctx context.Context, t *loadtest.Tenant) error {
	waiting, cancel := context.WithTimeout(ctx, consumeBound)
	defer cancel()
	if err := t.AwaitConsumed(waiting); err != nil {
		return err
	}
	if err := r.count(ctx, t); err != nil {
		return err
	}
	owner, err := r.owner(ctx, t.ID)
	if err != nil {
		return err
	}
	d, err := r.digest(ctx, owner.Cell, t.ID)
	if err != nil {
		return err
	}
	r.resting = append(r.resting, resting{t.ID, t.Slug, owner.Cell, d})
	if n := len(r.resting); n > restingMost {
		r.resting = r.resting[n-restingMost:]
	}
	return nil
}

// count adds a tenant's writes and events to the report.
func (r *run) count(ctx context.Context, t *loadtest.Tenant) error {
	rows, err := t.Check(ctx)
	if err != nil {
		return err
	}
	events, err := t.CheckEvents(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Writes, r.report.Events = r.report.Writes.Plus(rows), r.report.Events.Plus(events)
	if k := r.kept[t.ID]; k != nil {
		r.report.Keys.Acknowledged += k.acked
	}
	return nil
}

// digest stands for a tenant's own rows on a cell, by table.
func (r *run) digest(ctx context.Context, cell directory.CellID, t directory.TenantID) (string, error) {
	list, err := tables(ctx, r.cells[cell])
	if err != nil {
		return "", err
	}
	var all []string
	for _, name := range list {
		if strings.HasPrefix(name, "cell.") {
			continue // the cell's own bookkeeping: what is old is removed
		}
		var n int64
		var sum string
		sql := "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM " + name + " t WHERE tenant_id = $1"
		if err := r.cells[cell].QueryRow(ctx, sql, int64(t)).Scan(&n, &sum); err != nil {
			return "", fmt.Errorf("hash %s: %w", name, err)
		}
		all = append(all, fmt.Sprintf("%s %d %s", name, n, sum))
	}
	return strings.Join(all, ", "), nil
}

// checkResting holds I7: nothing of the neighbours changed.
func (r *run) checkResting(ctx context.Context) error {
	for _, n := range r.resting {
		d, err := r.digest(ctx, n.cell, n.id)
		if err != nil {
			return err
		}
		if d != n.digest {
			r.violate("I7", "the rows of %s on %s, which rests, changed from %s to %s", n.slug, n.cell, n.digest, d)
		}
	}
	return nil
}

// flood lets the busy neighbour on a cell write and commit very many rows in one
// transaction, and removes them again. n tells floods of one round apart.
func (r *run) flood(ctx context.Context, cell directory.CellID, n int) error {
	const (
		enter = `SELECT cell.enter($1, (SELECT epoch FROM cell.fence WHERE tenant_id = $1))`
		fill  = `INSERT INTO projects.projects (tenant_id, id, name) SELECT $1, format('flood-%s-%s', $2::int, g), 'flood' FROM generate_series(1, $3) g`
		empty = `DELETE FROM projects.projects WHERE tenant_id = $1`
	)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tenant := int64(r.busy[cell])
	for _, do := range []struct {
		sql  string
		args []any
	}{{fill, []any{tenant, n, r.o.Flood}}, {empty, []any{tenant}}} {
		err := pg.InTx(ctx, r.cells[cell], func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, enter, tenant); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, do.sql, do.args...)
			return err
		})
		if err != nil {
			return err // the server was killed below it
		}
	}
	return nil
}
