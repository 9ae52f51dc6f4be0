package store

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// columns are what scanMove reads.
const columns = `
	id, tenant, source, target, base, phase, previous, COALESCE(undoes, ''), COALESCE(undone_by, ''), wish, stop_at, watch,
	lease, holder, leased_until, report, error, created_at, changed_at, watch_ends,
	transient, attempt, attempts, not_before, COALESCE(retries, ''), COALESCE(retried_by, ''), rests_until, planned`

const selectMoves = `SELECT ` + columns + ` FROM directory.moves `

// The predicates of Phase that statements need, as the partial indexes have them.
const (
	notEnded  = ` phase NOT IN ('completed', 'aborted', 'undone') `
	undecided = ` phase IN ('planned', 'reserved', 'armed', 'copied', 'caught_up', 'frozen', 'staged') `
)

func scanMove(row pgx.CollectableRow) (directory.Move, error) {
	var m directory.Move
	var leased, ends, begins, rests *time.Time
	err := row.Scan(&m.ID, &m.Tenant, &m.Source, &m.Target, &m.Base, &m.Phase, &m.Previous, &m.Undoes, &m.UndoneBy, &m.Wish, &m.StopAt, &m.Watch,
		&m.Lease, &m.Holder, &leased, &m.Report, &m.Error, &m.Created, &m.Changed, &ends,
		&m.Transient, &m.Attempt, &m.Attempts, &begins, &m.Retries, &m.RetriedBy, &rests, &m.Planned)
	m.Created, m.Changed = m.Created.UTC(), m.Changed.UTC()
	if leased != nil {
		m.Leased = leased.UTC()
	}
	if ends != nil {
		m.WatchEnds = ends.UTC()
	}
	if begins != nil {
		m.NotBefore = begins.UTC()
	}
	if rests != nil {
		m.Rests = rests.UTC()
	}
	return m, err
}

// oneMove is the one move that a statement gives; no row is the error none.
func oneMove(ctx context.Context, db pg.DB, none error, sql string, args ...any) (directory.Move, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return directory.Move{}, err
	}
	return collectMove(rows, none)
}

// collectMove is the one move of rows; no row is the error none.
func collectMove(rows pgx.Rows, none error) (directory.Move, error) {
	m, err := pgx.CollectExactlyOneRow(rows, scanMove)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, none
	}
	return m, err
}

func getMove(ctx context.Context, db pg.DB, id directory.MoveID, lock string) (directory.Move, error) {
	return oneMove(ctx, db, problem.New(problem.NotFound, "no move %q", id), selectMoves+`WHERE id = $1 `+lock, id)
}

// openMoves is a tenant's moves that have not ended. Who holds the tenant's lock
// finds all of them: moves are made under it. lock keeps what is not under it,
// wishes and leases, from changing.
func openMoves(ctx context.Context, tx pgx.Tx, tenant directory.TenantID, lock string) ([]directory.Move, error) {
	rows, err := tx.Query(ctx, selectMoves+`WHERE tenant = $1 AND`+notEnded+`ORDER BY id `+lock, int64(tenant))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanMove)
}

// cellMoves is the moves that have not ended and name a cell. Who holds the
// cell's lock finds all that go there: moves are made under it.
func cellMoves(ctx context.Context, db pg.DB, cell directory.CellID) ([]directory.Move, error) {
	rows, err := db.Query(ctx, selectMoves+`WHERE $1 IN (source, target) AND`+notEnded+`ORDER BY id`, cell)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanMove)
}

// Move implements directory.Moves.
func (s *Store) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	m, err := getMove(ctx, s.pool, id, "")
	return m, fail(ctx, "find move", err)
}

// ListMoves implements directory.Moves.
func (s *Store) ListMoves(ctx context.Context, tenant directory.TenantID, ended bool, before directory.MoveID, limit int) ([]directory.Move, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	const page = selectMoves + `
	 WHERE ($1 = 0 OR tenant = $1) AND ($2 OR` + notEnded + `) AND ($3 = '' OR id < $3)
	 ORDER BY id DESC
	 LIMIT $4`
	rows, err := s.pool.Query(ctx, page, int64(tenant), ended, before, limit)
	if err != nil {
		return nil, fail(ctx, "list moves", err)
	}
	list, err := pgx.CollectRows(rows, scanMove)
	return list, fail(ctx, "list moves", err)
}

// newMoveID makes an id that sorts by time and that no other directory, nor this
// one after a restore, gives again: cells keep the ids of old moves.
func newMoveID() (directory.MoveID, error) {
	id, err := newID("mv_")
	return directory.MoveID(id), err
}

// newID is one of its own behind a prefix, in the order of its making.
func newID(prefix string) (string, error) {
	u, err := uuid.NewV7()
	return prefix + hex.EncodeToString(u[:]), err
}

// CreateMove implements directory.Moves. It holds the tenant, so that no other
// move of it begins; the move that it undoes, so that no mover begins to purge;
// and the target, so that its room is still there.
func (s *Store) CreateMove(ctx context.Context, n directory.NewMove) (directory.Move, error) {
	if err := n.Validate(); err != nil {
		return directory.Move{}, err
	}
	id, err := newMoveID()
	if err != nil {
		return directory.Move{}, err
	}
	var out directory.Move
	err = s.mutate(ctx, "create move", func(tx pgx.Tx) (*change, error) {
		t, err := lockTenant(ctx, tx, n.Tenant)
		if err != nil {
			return nil, err
		}
		open, err := openMoves(ctx, tx, n.Tenant, `FOR UPDATE`)
		if err != nil {
			return nil, err
		}
		to, err := getCell(ctx, tx, n.Target, forChange)
		if err != nil {
			return nil, err
		}
		coming, kin, now, err := comingTo(ctx, tx, n.Target, t.Tenant)
		if err != nil {
			return nil, err
		}
		if out, err = n.Begin(id, t.Tenant, to, open, coming, kin, now); err != nil {
			return nil, err
		}
		if n.DryRun {
			out.ID = ""
			out.Rehearsal, err = insertRehearsal(ctx, tx, out)
			return nil, err
		}
		return &change{action: "move.create", subject: directory.MoveSubject(id), after: out}, insertMove(ctx, tx, out)
	})
	if err != nil {
		return directory.Move{}, err
	}
	return out, nil
}

// comingTo is how many tenants are on their way to a cell, which is locked, whether
// another one of t's group is there or among them, and what time it is after all locks
// were waited for.
func comingTo(ctx context.Context, tx pgx.Tx, cell directory.CellID, t directory.Tenant) (coming int, kin bool, now time.Time, err error) {
	const count = `
		SELECT count(*), clock_timestamp(),
		       $2 <> '' AND EXISTS (SELECT FROM directory.tenants k
		                             WHERE k.apart = $2 AND k.apart <> '' AND k.state <> 'deleted' AND k.id <> $3
		                               AND (k.cell = $1 OR EXISTS (SELECT FROM directory.moves
		                                                            WHERE tenant = k.id AND target = $1 AND` + undecided + `)))
		  FROM directory.moves
		 WHERE target = $1 AND` + undecided
	err = tx.QueryRow(ctx, count, cell, t.Group, int64(t.ID)).Scan(&coming, &now, &kin)
	return coming, kin, now.UTC(), err
}

func insertMove(ctx context.Context, tx pgx.Tx, m directory.Move) error {
	const (
		insert = `
			INSERT INTO directory.moves (id, tenant, source, target, base, phase, undoes, stop_at, watch, created_at, changed_at,
			                             wish, attempt, attempts, not_before, retries, planned)
			VALUES ($1, $2, $3, $4, $5, $6, NULLIF($7, ''), $8, $9, $10, $10, $11, $12, $13, $14, NULLIF($15, ''), $16)`
		mark = `UPDATE directory.moves SET undone_by = $2 WHERE id = $1`
	)
	_, err := tx.Exec(ctx, insert, m.ID, int64(m.Tenant), m.Source, m.Target, int64(m.Base), m.Phase, m.Undoes, m.StopAt, m.Watch, m.Created,
		m.Wish, m.Attempt, m.Attempts, orNull(m.NotBefore), m.Retries, m.Planned)
	if err != nil || m.Undoes == "" {
		return err
	}
	_, err = tx.Exec(ctx, mark, m.Undoes, m.ID)
	return err
}

// updateMove writes what changes in the life of a move, but for its lease.
func updateMove(ctx context.Context, tx pgx.Tx, m directory.Move) error {
	var batch pgx.Batch
	queueMove(&batch, m)
	return tx.SendBatch(ctx, &batch).Close()
}

// queueMove is updateMove in a message with others.
func queueMove(batch *pgx.Batch, m directory.Move) {
	const update = `
		UPDATE directory.moves
		   SET phase = $2, previous = $3, undone_by = NULLIF($4, ''), wish = $5, report = $6, error = $7, changed_at = $8, watch_ends = $9,
		       transient = $10, retried_by = NULLIF($11, ''), not_before = $12, stop_at = $13, rests_until = $14
		 WHERE id = $1`
	var report *string
	if len(m.Report) > 0 {
		text := string(m.Report)
		report = &text
	}
	batch.Queue(update, m.ID, m.Phase, m.Previous, m.UndoneBy, m.Wish, report, m.Error, m.Changed, orNull(m.WatchEnds),
		m.Transient, m.RetriedBy, orNull(m.NotBefore), m.StopAt, orNull(m.Rests))
}

// orNull is NULL for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
