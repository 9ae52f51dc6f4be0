package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

var _ directory.Rollouts = (*Store)(nil)

const selectRollouts = `
	SELECT id, state, wave, round, routers, changes, before, why, actor, reason, soak, requests, margin, base, created_at, opened_at, changed_at
	  FROM directory.rollouts `

// listRollouts leaves the changes out: a list of them all may be very long.
const listRollouts = `
	SELECT id, state, wave, round, routers, '[]'::jsonb, '[]'::jsonb, why, actor, reason, soak, requests, margin, base, created_at, opened_at, changed_at
	  FROM directory.rollouts
	 ORDER BY created_at DESC, id LIMIT $1`

const insertRollout = `
	INSERT INTO directory.rollouts
	       (id, state, wave, round, routers, changes, before, why, actor, reason, soak, requests, margin, base, created_at, opened_at, changed_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`

func scanRollout(row pgx.CollectableRow) (directory.Rollout, error) {
	var r directory.Rollout
	err := row.Scan(&r.ID, &r.State, &r.Wave, &r.Round, &r.Routers, &r.Changes, &r.Before, &r.Why, &r.By, &r.Reason,
		(*int64)(&r.Soak), &r.Requests, &r.Margin, &r.Base, &r.Created, &r.Opened, &r.Changed)
	r.Created, r.Opened, r.Changed = r.Created.UTC(), r.Opened.UTC(), r.Changed.UTC()
	return r, err
}

// oneRollout is the roll-out that where finds.
func oneRollout(ctx context.Context, db pg.DB, where string, args ...any) (directory.Rollout, error) {
	rows, err := db.Query(ctx, selectRollouts+where, args...)
	if err != nil {
		return directory.Rollout{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanRollout)
}

func newRolloutID() (directory.RolloutID, error) {
	id, err := newID("ro_")
	return directory.RolloutID(id), err
}

// CreateRollout implements directory.Rollouts.
func (s *Store) CreateRollout(ctx context.Context, n directory.NewRollout) (directory.Rollout, error) {
	if err := n.Validate(); err != nil {
		return directory.Rollout{}, err
	}
	id, err := newRolloutID()
	if err != nil {
		return directory.Rollout{}, err
	}
	var r directory.Rollout
	err = s.mutate(ctx, "create roll-out", func(tx pgx.Tx) (*change, error) {
		before, err := stands(ctx, tx, n.Changes)
		if err != nil {
			return nil, err
		}
		if err := hostsAreFree(ctx, tx, n.Changes); err != nil {
			return nil, err
		}
		routers, now, err := staged(ctx, tx)
		if err != nil {
			return nil, err
		}
		if r, err = n.Begin(id, directory.Actor(ctx), before, routers, now); err != nil {
			return nil, err
		}
		if n.DryRun {
			r.ID, r.Routers = "", []string{}
			return nil, nil
		}
		if open, err := oneRollout(ctx, tx, `WHERE state IN ('running', 'halted')`); !errors.Is(err, pgx.ErrNoRows) {
			if err == nil {
				err = problem.New(problem.Conflict, "roll-out %s is %s: one at a time", open.ID, open.State)
			}
			return nil, err
		}
		_, err = tx.Exec(ctx, insertRollout, r.ID, r.State, r.Wave, r.Round, r.Routers, r.Changes, r.Before, r.Why, r.By, r.Reason,
			int64(r.Soak), r.Requests, r.Margin, r.Base, r.Created, r.Opened, r.Changed)
		if pg.Code(err) == pg.UniqueViolation {
			return nil, problem.New(problem.Conflict, "another roll-out was begun at the same time")
		}
		if err == nil {
			err = wake(ctx, tx, aboutTable)
		}
		return &change{action: "rollout.create", subject: rolloutSubject(r.ID), after: r}, err
	})
	return r, err
}

// Rollout implements directory.Rollouts.
func (s *Store) Rollout(ctx context.Context, id directory.RolloutID) (directory.Rollout, error) {
	r, err := oneRollout(ctx, s.pool, `WHERE id = $1`, id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = noRollout(id)
	}
	if err == nil && r.State == directory.RolloutRunning {
		var routers []directory.Heard
		routers, _, err = staged(ctx, s.pool)
		t := r.Count(routers)
		r.Tallies = &t
	}
	return r, fail(ctx, "find roll-out", err)
}

// ListRollouts implements directory.Rollouts.
func (s *Store) ListRollouts(ctx context.Context, limit int) ([]directory.Rollout, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, listRollouts, limit)
	if err != nil {
		return nil, fail(ctx, "list roll-outs", err)
	}
	list, err := pgx.CollectRows(rows, scanRollout)
	return list, fail(ctx, "list roll-outs", err)
}

// AskRollout implements directory.Rollouts.
func (s *Store) AskRollout(ctx context.Context, id directory.RolloutID, wish directory.RolloutWish) (directory.Rollout, error) {
	var r directory.Rollout
	err := s.mutate(ctx, "ask roll-out", func(tx pgx.Tx) (*change, error) {
		old, err := oneRollout(ctx, tx, `WHERE id = $1 FOR UPDATE`, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, noRollout(id)
		}
		if err != nil {
			return nil, err
		}
		routers, now, err := staged(ctx, tx)
		if err != nil {
			return nil, err
		}
		if r, err = old.Ask(wish, directory.Actor(ctx), routers, now); err != nil || r.Changed.Equal(old.Changed) {
			return nil, err
		}
		return save(ctx, tx, old, r, "rollout."+string(wish))
	})
	return r, err
}

// save keeps what has become of a roll-out, whose row is locked, and tells the routers.
func save(ctx context.Context, tx pgx.Tx, old, r directory.Rollout, action string) (*change, error) {
	const update = `
		UPDATE directory.rollouts
		   SET state = $2, wave = $3, round = $4, routers = $5, reason = $6, base = $7, opened_at = $8, changed_at = $9
		 WHERE id = $1`
	if _, err := tx.Exec(ctx, update, r.ID, r.State, r.Wave, r.Round, r.Routers, r.Reason, r.Base, r.Opened, r.Changed); err != nil {
		return nil, err
	}
	c := &change{action: action, subject: rolloutSubject(r.ID), before: brief(old), after: brief(r)}
	return c, wake(ctx, tx, aboutTable)
}

// brief is what an audit line says of a step: the changes are in the first one.
func brief(r directory.Rollout) directory.Rollout {
	r.Changes, r.Before = nil, nil
	return r
}

// staged is the routers that take part in roll-outs, and the time.
func staged(ctx context.Context, db pg.DB) (routers []directory.Heard, now time.Time, err error) {
	// One row at least, so that there is a time.
	rows, err := db.Query(ctx, `
		SELECT now(), COALESCE(r.id, ''), COALESCE(r.seen_at > now() - `+ttl+`, false),
		       COALESCE(r.rollout, ''), COALESCE(r.round, 0), COALESCE(r.requests, 0), COALESCE(r.failed, 0), r.refused
		  FROM (SELECT) one LEFT JOIN directory.routers r ON r.staged
		 ORDER BY r.id`)
	if err != nil {
		return nil, now, err
	}
	var h directory.Heard
	_, err = pgx.ForEachRow(rows, []any{&now, &h.Router, &h.Live, &h.Rollout, &h.Round, &h.Requests, &h.Failed, &h.Refused}, func() error {
		if h.Router != "" {
			routers = append(routers, h)
		}
		return nil
	})
	return routers, now.UTC(), err
}

func noRollout(id directory.RolloutID) error {
	return problem.New(problem.NotFound, "no roll-out %q", id)
}

func rolloutSubject(id directory.RolloutID) string { return "rollout/" + string(id) }
