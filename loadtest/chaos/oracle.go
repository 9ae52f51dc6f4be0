package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// A fence is what one cell's fence says of a tenant.
type fence struct {
	Tenant  directory.TenantID
	State   string
	Epoch   directory.Epoch
	Capture bool
	Noted   int64 // keys that are noted for it
}

// fences are all fences of a cell.
type fences map[directory.TenantID]fence

func readFences(ctx context.Context, db *pgxpool.Pool, noted bool) (fences, error) {
	sql := `SELECT tenant_id, state, epoch, capture, 0::bigint FROM cell.fence`
	if noted {
		sql = `SELECT f.tenant_id, f.state, f.epoch, f.capture, (SELECT count(*) FROM cell.dirty d WHERE d.tenant_id = f.tenant_id) FROM cell.fence f`
	}
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[fence])
	if err != nil {
		return nil, err
	}
	all := fences{}
	for _, f := range list {
		all[f.Tenant] = f
	}
	return all, nil
}

// cellIDs is the cells in a fixed order.
func (r *run) cellIDs() []directory.CellID {
	ids := make([]directory.CellID, len(r.state.Cells))
	for i := range ids {
		ids[i] = r.cellAt(i)
	}
	return ids
}

// watchOwners holds at every instant that one cell at most serves a tenant (I1).
func (r *run) watchOwners(ctx context.Context) {
	ids := r.cellIDs()
	for loadtest.Pause(ctx, 10*time.Millisecond) {
		var first, again []fences
		for _, into := range []*[]fences{&first, &again} {
			for _, id := range ids {
				f, err := r.look(ctx, id)
				if err != nil {
					break // it is dead just now
				}
				*into = append(*into, f)
			}
		}
		if len(again) < len(ids) {
			continue
		}
		for _, what := range twoOwners(ids, first, again) {
			r.violate("I1", "%s", what)
		}
	}
}

func (r *run) look(ctx context.Context, id directory.CellID) (fences, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return readFences(ctx, r.cells[id], false)
}

// twoOwners names the tenants that two cells served at one instant. The cells
// were read one after the other, twice: a fence that was active at the same epoch
// both times was so all the time between, for epochs only grow; and another cell
// was read between.
func twoOwners(ids []directory.CellID, first, again []fences) []string {
	var found []string
	for i, before := range first {
		for tenant, f := range before {
			if f.State != "active" || again[i][tenant].State != "active" || again[i][tenant].Epoch != f.Epoch {
				continue
			}
			for j := i + 1; j < len(first); j++ {
				if g := first[j][tenant]; g.State == "active" {
					found = append(found, fmt.Sprintf("tenant %d is active on %s at epoch %d and on %s at epoch %d", tenant, ids[i], f.Epoch, ids[j], g.Epoch))
				}
			}
		}
	}
	return found
}

// check holds, when no move is under way, everything that must then be so. began is when
// the round did.
func (r *run) check(ctx context.Context, began time.Time) error {
	if err := r.readLosses(); err != nil {
		return err
	}
	for _, t := range r.movers {
		if err := r.checkFences(ctx, t, began); err != nil {
			return fmt.Errorf("check the fences of %s: %w", t.Slug, err)
		}
		if err := r.checkWrites(ctx, t); err != nil {
			return fmt.Errorf("check the writes of %s: %w", t.Slug, err)
		}
		if err := r.checkKeys(ctx, t, began); err != nil {
			return fmt.Errorf("check the durable keys of %s: %w", t.Slug, err)
		}
	}
	if err := r.checkStreams(ctx, false); err != nil {
		return fmt.Errorf("check the streams: %w", err)
	}
	if err := r.checkResting(ctx); err != nil {
		return fmt.Errorf("check the neighbours: %w", err)
	}
	return nil
}

// checkFences holds I1, I12 and I11: the directory's owner serves at its epoch
// and nobody else does; nothing is left where the tenant is not, but what an open
// way back needs.
func (r *run) checkFences(ctx context.Context, t *loadtest.Tenant, began time.Time) error {
	owner, err := r.owner(ctx, t.ID)
	if err != nil {
		return err
	}
	watching, err := r.watching(ctx, t.ID)
	if err != nil {
		return err
	}
	for _, id := range r.cellIDs() {
		all, err := readFences(ctx, r.cells[id], true)
		if err != nil {
			return err
		}
		f, known := all[t.ID]
		for _, what := range wrongFence(id, f, known, owner, watching) {
			r.violate(what.Invariant, "%s: %s", t.Slug, what.What)
		}
		if id == owner.Cell || id == watching.Source {
			delete(r.kept[t.ID].left, id)
			continue
		}
		left, err := rowsOf(ctx, r.cells[id], t.ID)
		if err != nil {
			return err
		}
		if left > 0 {
			r.violate("I11", "%s: %d rows are left on %s, the owner is %s", t.Slug, left, id, owner.Cell)
		}
		if err := r.checkLeftKeys(ctx, t, id, began); err != nil {
			return err
		}
	}
	return nil
}

// lateNotes is how many keys may be noted after an abort has removed those that
// were: by transactions that were under way then. The next move removes them.
const lateNotes = 50

// wrongFence says what is wrong with the fence of a tenant without a move under way.
func wrongFence(id directory.CellID, f fence, known bool, owner directory.Placement, watching directory.Move) []Violation {
	var found []Violation
	wrong := func(invariant, format string, args ...any) {
		found = append(found, Violation{Invariant: invariant, What: fmt.Sprintf(format, args...)})
	}
	switch {
	case id == owner.Cell && !known && owner.Epoch > 1: // at 1 its first transaction makes it
		wrong("I12", "%s owns it at epoch %d and has no fence of it", id, owner.Epoch)
	case id == owner.Cell && known && (f.State != "active" || f.Epoch != owner.Epoch):
		wrong("I12", "%s owns it at epoch %d, its fence is %s at %d", id, owner.Epoch, f.State, f.Epoch)
	case id != owner.Cell && known && f.State != "moved":
		wrong("I12", "%s owns it at epoch %d, the fence of %s is %s at %d", owner.Cell, owner.Epoch, id, f.State, f.Epoch)
	case id != owner.Cell && f.Epoch > owner.Epoch:
		wrong("I12", "%s owns it at epoch %d, the tombstone of %s is at %d", owner.Cell, owner.Epoch, id, f.Epoch)
	}
	if due := id == owner.Cell && watching.ID != ""; known && f.Capture != due {
		wrong("I11", "capture on %s is %v, a way back is open: %v", id, f.Capture, due)
	}
	if !f.Capture && f.Noted > lateNotes && id != watching.Source { // there they go with the rows
		wrong("I11", "%d noted keys are left on %s", f.Noted, id)
	}
	return found
}

// checkWrites holds I2, I5 and, of jobs, I14: every acknowledged write is there once, every event
// was consumed once and in order, each task with a date has fallen due once.
func (r *run) checkWrites(ctx context.Context, t *loadtest.Tenant) error {
	waiting, cancel := context.WithTimeout(ctx, consumeBound)
	defer cancel()
	if err := t.AwaitConsumed(waiting); err != nil {
		r.violate("I5", "%v", err)
		return nil
	}
	rows, err := t.Check(ctx)
	if err != nil {
		return err
	}
	if !rows.OK() {
		r.violate("I2", "%s: %d lost, %d doubled, %d unknown: %v", t.Slug, rows.Lost, rows.Doubled, rows.Unknown, rows.Named)
	}
	events, err := t.CheckEvents(ctx)
	if err != nil {
		return err
	}
	if !events.OK() {
		r.violate("I5", "%s: %d written, %d consumed: %v", t.Slug, events.Written, events.Consumed, events.Named)
	}
	return nil
}
