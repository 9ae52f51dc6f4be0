package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// ttl is directory.HeartbeatTTL as Postgres reads it.
var ttl = fmt.Sprintf("interval '%d milliseconds'", directory.HeartbeatTTL.Milliseconds())

// selectCells gives what scanCell reads. A heartbeat counts only with the
// incarnation of the record: another database must not keep the cell alive.
var selectCells = `
	SELECT c.id, c.state, c.address, c.admin, c.locality, c.tier, c.capacity, c.tenants, c.incarnation, c.announced, c.unheard,
	       COALESCE(h.seen_at > now() - ` + ttl + `, false), h.seen_at
	  FROM directory.cells c
	  LEFT JOIN directory.heartbeats h ON h.cell = c.id AND h.incarnation = c.incarnation`

func scanCell(row pgx.CollectableRow) (directory.Cell, error) {
	var c directory.Cell
	var seen *time.Time
	err := row.Scan(&c.ID, &c.State, &c.Address, &c.Admin, &c.Locality, &c.Tier, &c.Capacity, &c.Tenants, &c.Incarnation,
		&c.Announced, &c.Unheard, &c.Healthy, &seen)
	if seen != nil {
		c.SeenAt = seen.UTC()
	}
	return c, err
}

// getCell is one cell; lock is "" or the lock that the transaction needs.
func getCell(ctx context.Context, db pg.DB, id directory.CellID, lock string) (directory.Cell, error) {
	rows, err := db.Query(ctx, selectCells+` WHERE c.id = $1 `+lock, id)
	if err != nil {
		return directory.Cell{}, err
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCell)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, problem.New(problem.NotFound, "no cell %q", id)
	}
	return c, err
}

// forChange keeps every other mutation of the cell, its count of tenants
// included, waiting until the commit; foreign keys to it do not wait.
const forChange = `FOR NO KEY UPDATE OF c`

// AddCell implements directory.Cells.
func (s *Store) AddCell(ctx context.Context, c directory.Cell) (directory.Cell, error) {
	var out directory.Cell
	err := s.mutate(ctx, "add cell", func(tx pgx.Tx) (did *change, err error) {
		if did, err = register(ctx, tx, c); err != nil {
			return nil, err
		}
		if c.Incarnation != "" { // else it is somebody else who knows of the cell
			if err = beat(ctx, tx, directory.Member{ID: c.ID, Address: c.Address, Incarnation: c.Incarnation}); err != nil {
				return nil, err
			}
			if err = wake(ctx, tx, aboutMembers); err != nil {
				return nil, err
			}
		}
		out, err = getCell(ctx, tx, c.ID, "")
		return did, err
	})
	return out, err
}

const insertCell = `
	INSERT INTO directory.cells (id, state, address, admin, locality, tier, capacity, incarnation, announced, unheard)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
	    ON CONFLICT (id) DO NOTHING`

const updateCell = `
	UPDATE directory.cells
	   SET state = $2, address = $3, admin = $4, locality = $5, tier = $6, capacity = $7, incarnation = $8,
	       announced = $9, unheard = $10
	 WHERE id = $1`

func write(ctx context.Context, tx pgx.Tx, sql string, c directory.Cell) (rows int64, err error) {
	tag, err := tx.Exec(ctx, sql, c.ID, c.State, c.Address, c.Admin, c.Locality, c.Tier, c.Capacity, c.Incarnation, c.Announced, c.Unheard)
	return tag.RowsAffected(), err
}

// register inserts the cell or, where it is there, brings it up to date.
func register(ctx context.Context, tx pgx.Tx, c directory.Cell) (*change, error) {
	kept, err := c.Register(nil)
	if err != nil {
		return nil, err
	}
	inserted, err := write(ctx, tx, insertCell, kept)
	if err != nil {
		return nil, err
	}
	did := &change{subject: cellSubject(c.ID), cell: c.ID}
	if inserted == 1 {
		kept.Tenants, kept.Healthy, kept.SeenAt = 0, false, time.Time{}
		did.action, did.after, did.publish = "cell.add", kept, true
		return did, nil
	}
	old, err := getCell(ctx, tx, c.ID, forChange)
	if err != nil {
		return nil, err
	}
	if kept, err = c.Register(&old); err != nil {
		return nil, err
	}
	kept.Tenants, kept.Healthy, kept.SeenAt = old.Tenants, old.Healthy, old.SeenAt
	if kept == old {
		return nil, nil
	}
	did.action, did.before, did.after = "cell.update", old, kept
	did.publish = kept.Route() != old.Route() && kept.State != directory.Retired
	_, err = write(ctx, tx, updateCell, kept)
	return did, err
}

// Heartbeat implements directory.Cells.
func (s *Store) Heartbeat(ctx context.Context, id directory.CellID, incarnation string) error {
	return fail(ctx, "note heartbeat", func() error {
		c, err := getCell(ctx, s.pool, id, "")
		if err == nil {
			err = c.MayBeat(incarnation)
		}
		if err != nil {
			return err
		}
		return beat(ctx, s.pool, directory.Member{ID: id, Address: c.Address, Incarnation: incarnation})
	}())
}

// Cell implements directory.Cells.
func (s *Store) Cell(ctx context.Context, id directory.CellID) (directory.Cell, error) {
	c, err := getCell(ctx, s.pool, id, "")
	return c, fail(ctx, "find cell", err)
}

// ListCells implements directory.Cells.
func (s *Store) ListCells(ctx context.Context) ([]directory.Cell, error) {
	cells, err := listCells(ctx, s.pool, "")
	return cells, fail(ctx, "list cells", err)
}

// listCells is every cell that is not retired, by id, locked in that order.
func listCells(ctx context.Context, db pg.DB, lock string) ([]directory.Cell, error) {
	rows, err := db.Query(ctx, selectCells+` WHERE c.state <> 'retired' ORDER BY c.id `+lock)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanCell)
}

// SetCellState implements directory.Cells.
func (s *Store) SetCellState(ctx context.Context, id directory.CellID, to directory.CellState) (directory.Cell, error) {
	return s.enter(ctx, id, to, false)
}

// enter is SetCellState; of a cell that is lost, without asking for the moves that need it.
func (s *Store) enter(ctx context.Context, id directory.CellID, to directory.CellState, lost bool) (directory.Cell, error) {
	var out directory.Cell
	err := s.mutate(ctx, "set cell state", func(tx pgx.Tx) (*change, error) {
		old, err := getCell(ctx, tx, id, forChange)
		if err != nil {
			return nil, err
		}
		if out, err = old.Enter(to); err != nil || out == old {
			return nil, err
		}
		if !lost {
			open, err := cellMoves(ctx, tx, id)
			if err != nil {
				return nil, err
			}
			if err := directory.MayEnter(id, to, open); err != nil {
				return nil, err
			}
		}
		_, err = write(ctx, tx, updateCell, out)
		return &change{action: "cell.state", subject: cellSubject(id), before: old, after: out, cell: id, publish: true}, err
	})
	return out, err
}

// RemoveCell implements directory.Cells.
func (s *Store) RemoveCell(ctx context.Context, id directory.CellID, lost bool) error {
	if _, err := s.enter(ctx, id, directory.Retired, lost); err != nil || !lost {
		return err
	}
	open, err := cellMoves(ctx, s.pool, id) // no more come
	if err != nil {
		return fail(ctx, "find the cell's moves", err)
	}
	return directory.EndWithout(ctx, s, open)
}

func cellSubject(id directory.CellID) string { return "cell/" + string(id) }
