package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// AskMove implements directory.Moves.
func (s *Store) AskMove(ctx context.Context, id directory.MoveID, w directory.Wish) (directory.Move, error) {
	var out directory.Move
	err := s.mutate(ctx, "ask move", func(tx pgx.Tx) (*change, error) {
		old, now, err := lockMove(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if out, err = old.Ask(w, now); err != nil || out.Wish == old.Wish && out.WatchEnds.Equal(old.WatchEnds) {
			return nil, err
		}
		if w == directory.Switch {
			t, to, err := parties(ctx, tx, old)
			if err == nil {
				err = old.MaySwitch(t, to)
			}
			if err != nil {
				return nil, err
			}
		}
		out.Changed = now
		return &change{action: "move.wish", subject: directory.MoveSubject(id), before: old, after: out}, updateMove(ctx, tx, out)
	})
	return out, err
}

// parties are the tenant and the target of a move as they are now.
func parties(ctx context.Context, tx pgx.Tx, m directory.Move) (directory.Tenant, directory.Cell, error) {
	t, err := getTenant(ctx, tx, ` WHERE t.id = $1`, int64(m.Tenant))
	if err != nil {
		return directory.Tenant{}, directory.Cell{}, err
	}
	to, err := getCell(ctx, tx, m.Target, "")
	return t.Tenant, to, err
}

// lockMove keeps every other change of the move waiting, its lease included, and
// says what time it is.
func lockMove(ctx context.Context, tx pgx.Tx, id directory.MoveID) (m directory.Move, now time.Time, err error) {
	var batch pgx.Batch
	queueLock(&batch, id, &m, &now)
	err = tx.SendBatch(ctx, &batch).Close()
	return m, now, err
}

// queueLock is lockMove in a message with others, after the statements before, which are of the move id, too.
func queueLock(batch *pgx.Batch, id directory.MoveID, m *directory.Move, now *time.Time, before ...string) {
	for _, sql := range before {
		batch.Queue(sql, id)
	}
	batch.Queue(selectMoves+`WHERE id = $1 FOR UPDATE`, id).Query(func(rows pgx.Rows) (err error) {
		*m, err = collectMove(rows, problem.New(problem.NotFound, "no move %q", id))
		return err
	})
	batch.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(now)
		*now = now.UTC()
		return err
	})
}

// free is a move that nobody holds.
const free = ` (leased_until IS NULL OR leased_until <= clock_timestamp()) `

// inPause is a move whose Turn is the first.
const inPause = ` phase IN ('frozen', 'staged', 'decided', 'aborting') `

// The three ways to lease a move. Each is one statement on one row, so that of
// two movers at once one finds that it came too late. takeAny says in SQL what
// Move.Waits and Move.Turn say; it looks at columns of this row only, because those are what
// is looked at again when the row has changed meanwhile.
const (
	takeAny = `
		UPDATE directory.moves
		   SET lease = lease + 1, holder = $1, leased_until = clock_timestamp() + $2::interval
		 WHERE id = (SELECT id
		               FROM directory.moves
		              WHERE` + notEnded + `AND` + free + `
		                AND ($3 = '' OR` + inPause + `)
		                AND COALESCE(rests_until <= clock_timestamp(), true)
		                AND NOT (phase = 'planned' AND wish <> 'cancel' AND COALESCE(not_before > clock_timestamp(), false))
		                AND NOT (phase = 'caught_up' AND stop_at = 'caught_up' AND wish = '')
		                AND NOT (phase = 'watching' AND
		                         (undone_by IS NOT NULL OR wish NOT IN ('verify', 'complete') AND COALESCE(watch_ends > clock_timestamp(), true)
		                          AND COALESCE(not_before > clock_timestamp(), false)))
		              ORDER BY CASE WHEN` + inPause + `THEN 0
		                            WHEN phase = 'watching' THEN 3
		                            WHEN undoes IS NOT NULL THEN 1
		                            WHEN NOT planned THEN 2
		                            ELSE 3 END, created_at, id
		              LIMIT 1
		                FOR UPDATE SKIP LOCKED)
		RETURNING ` + columns
	takeOne = `
		UPDATE directory.moves
		   SET lease = lease + CASE WHEN holder = $1 THEN 0 ELSE 1 END, holder = $1, leased_until = clock_timestamp() + $2::interval
		 WHERE id = $3 AND` + notEnded + `AND (holder = $1 OR` + free + `)
		RETURNING ` + columns
	giveBack = `
		UPDATE directory.moves
		   SET holder = '', leased_until = NULL
		 WHERE id = $2 AND holder = $1
		RETURNING ` + columns
)

// LeaseMove implements directory.Moves.
func (s *Store) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	if err := directory.CheckLease(id, holder, ttl); err != nil {
		return directory.Move{}, err
	}
	sql, args := takeOne, []any{holder, ttl, id}
	switch {
	case id == "", id == directory.InPause:
		sql = takeAny
	case ttl == 0:
		sql, args = giveBack, []any{holder, id}
	}
	m, err := oneMove(ctx, s.pool, problem.New(problem.NotFound, "no move %q is free", id), sql, args...)
	return m, fail(ctx, "lease move", err)
}

// RestMove implements directory.Moves.
func (s *Store) RestMove(ctx context.Context, said directory.Move, d time.Duration) error {
	if err := directory.CheckLease(said.ID, "a mover", d); err != nil {
		return err
	}
	return fail(ctx, "rest move", pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		old, now, err := lockMove(ctx, tx, said.ID)
		if err != nil {
			return err
		}
		next, err := old.Rest(said, d, now)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE directory.moves SET holder = '', leased_until = NULL, rests_until = $2 WHERE id = $1`, next.ID, next.Rests)
		return err
	}))
}

// Advance implements directory.Moves.
func (s *Store) Advance(ctx context.Context, said directory.Move, from directory.Phase) error {
	var old directory.Move
	var now time.Time
	var to recipient
	lock := func(b *pgx.Batch) {
		if said.Phase == from { // a report changes neither tenant nor cells
			queueLock(b, said.ID, &old, &now)
			return
		}
		queueLock(b, said.ID, &old, &now, lockTenantOf) // the tenant before its moves, as always
		if _, gives := said.Gives(); gives {
			queueGiven(b, said.ID, &to)
		}
	}
	return s.mutateAfter(ctx, "advance move", lock, func(tx pgx.Tx) (*change, error) {
		next, news, err := old.Advanced(said, from, now)
		if err != nil || !news {
			return nil, err
		}
		if next.Phase == old.Phase {
			return nil, updateMove(ctx, tx, next)
		}
		return s.reach(ctx, tx, old, next, to)
	})
}

// A recipient is what a phase that gives a tenant a placement has locked: the tenant, and
// both cells of the move.
type recipient struct {
	tenant tenant
	cells  []directory.Cell // their ids and states
}

// mayOwn reports, as a Conflict, that the cell of a placement can own nobody.
func (r recipient) mayOwn(id directory.CellID) error {
	for _, c := range r.cells {
		if c.ID == id {
			return c.MayOwn()
		}
	}
	return nil
}

// queueGiven reads, in a message with others, the tenant of a move, which is locked, and
// then locks both cells of the move.
func queueGiven(b *pgx.Batch, id directory.MoveID, to *recipient) {
	const owner = ` WHERE t.id = (SELECT tenant FROM directory.moves WHERE id = $1)`
	b.Queue(selectTenants+owner, id).Query(func(rows pgx.Rows) (err error) {
		to.tenant, err = collectTenant(rows, id)
		return err
	})
	const both = `
		SELECT c.id, c.state FROM directory.cells c
		 WHERE c.id IN (SELECT unnest(ARRAY[source, target]) FROM directory.moves WHERE id = $1)
		 ORDER BY c.id `
	b.Queue(both+forChange, id).Query(func(rows pgx.Rows) (err error) {
		to.cells, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c directory.Cell, err error) {
			return c, row.Scan(&c.ID, &c.State)
		})
		return err
	})
}

// reach writes a phase with all that belongs to it. The tenant is locked. Where the
// phase gives it a placement, to is what is locked for it.
func (s *Store) reach(ctx context.Context, tx pgx.Tx, old, next directory.Move, to recipient) (*change, error) {
	did := &change{action: "move.advance", subject: directory.MoveSubject(next.ID), before: old, after: next}
	if old.Phase == directory.Planned {
		t, to, err := parties(ctx, tx, old)
		if err == nil {
			err = old.MayReach(next.Phase, t, to)
		}
		if err != nil {
			return nil, err
		}
	}
	// First the move that is undone: one at a time watches over a tenant.
	if err := follow(ctx, tx, next); err != nil {
		return nil, err
	}
	if next.Retryable() {
		if err := updateMove(ctx, tx, next); err != nil {
			return nil, err
		}
		return did, s.retry(ctx, tx, next)
	}
	// The tenant may be waiting: all is written in one message.
	queueMove(&did.writes, next)
	if p, gives := next.Gives(); gives {
		return did, give(ctx, did, next, to, p)
	}
	return did, nil
}

// retry makes the move that tries an aborted one again.
func (s *Store) retry(ctx context.Context, tx pgx.Tx, aborted directory.Move) error {
	id, err := newMoveID()
	if err != nil {
		return err
	}
	t, err := lockTenant(ctx, tx, aborted.Tenant)
	if err != nil {
		return err
	}
	open, err := openMoves(ctx, tx, aborted.Tenant, `FOR UPDATE`)
	if err != nil {
		return err
	}
	to, err := getCell(ctx, tx, aborted.Target, forChange)
	if err != nil {
		return err
	}
	coming, kin, now, err := comingTo(ctx, tx, aborted.Target, t.Tenant)
	if err != nil {
		return err
	}
	next, again := aborted.Retry(id, t.Tenant, to, open, coming, kin, now)
	if !again {
		return nil
	}
	if err := insertMove(ctx, tx, next); err != nil {
		return err
	}
	aborted.RetriedBy = id
	if err := updateMove(ctx, tx, aborted); err != nil {
		return err
	}
	return note(ctx, tx, &change{action: "move.create", subject: directory.MoveSubject(id), after: next})
}

// follow tells the move that next undoes, if it has to know.
func follow(ctx context.Context, tx pgx.Tx, next directory.Move) error {
	if next.Undoes == "" || next.Phase != directory.Watching && next.Phase != directory.Aborted {
		return nil
	}
	undone, err := getMove(ctx, tx, next.Undoes, `FOR UPDATE`)
	if err != nil {
		return err
	}
	after, follows := next.Follow(undone)
	if !follows {
		return nil
	}
	if err := updateMove(ctx, tx, after); err != nil || after.Phase == undone.Phase {
		return err
	}
	return note(ctx, tx, &change{action: "move.advance", subject: directory.MoveSubject(after.ID), before: undone, after: after})
}

// give has did give the tenant the placement p, if it is still m's to give, and the cell there to take it.
func give(ctx context.Context, did *change, m directory.Move, to recipient, p directory.Placement) error {
	t, before := to.tenant, to.tenant.Placement
	if err := m.Owns(before); err != nil {
		return err
	}
	if err := to.mayOwn(p.Cell); err != nil {
		return err
	}
	place(&did.writes, before.Cell, p)
	p.State = directory.Shown(p.State, t.suspended)
	t.Placement = p
	did.tenant, did.publish, did.digest = p.Tenant, true, t.route().Digest()
	return queueNote(ctx, &did.writes, &change{action: "tenant.place", subject: tenantSubject(p.Tenant), before: before, after: p})
}

// note writes the audit line of one more thing that a mutation did.
func note(ctx context.Context, tx pgx.Tx, c *change) error {
	var batch pgx.Batch
	if err := queueNote(ctx, &batch, c); err != nil {
		return err
	}
	return tx.SendBatch(ctx, &batch).Close()
}

// queueNote is note in a message with others.
func queueNote(ctx context.Context, batch *pgx.Batch, c *change) error {
	before, err := document(c.before)
	if err != nil {
		return err
	}
	after, err := document(c.after)
	if err != nil {
		return err
	}
	batch.Queue(insertAudit, directory.Actor(ctx), c.action, c.subject, before, after)
	return nil
}
