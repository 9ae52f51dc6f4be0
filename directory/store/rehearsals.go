package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// tried are the columns that scanRehearsal reads.
const tried = ` id, move, lease, holder, leased_until, report, created_at, ended_at `

func scanRehearsal(row pgx.CollectableRow) (directory.Rehearsal, error) {
	var r directory.Rehearsal
	var leased, ended *time.Time
	err := row.Scan(&r.ID, &r.Move, &r.Lease, &r.Holder, &leased, &r.Report, &r.Created, &ended)
	r.Created = r.Created.UTC()
	if leased != nil {
		r.Leased = leased.UTC()
	}
	if ended != nil {
		r.Ended = ended.UTC()
	}
	return r, err
}

// oneRehearsal is the one rehearsal that a statement gives; no row is the error none.
func oneRehearsal(ctx context.Context, db pg.DB, none error, sql string, args ...any) (directory.Rehearsal, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return directory.Rehearsal{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRehearsal)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, none
	}
	return r, err
}

func noRehearsal(id directory.RehearsalID) error {
	return problem.New(problem.NotFound, "no rehearsal %q", id)
}

// insertRehearsal asks movers to try m, which is not recorded. Several at once may each find the last
// place: they are few, and none of them harms.
func insertRehearsal(ctx context.Context, tx pgx.Tx, m directory.Move) (directory.RehearsalID, error) {
	id, err := newID(directory.RehearsalIDs)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	const count = `SELECT count(*) FROM directory.rehearsals WHERE ended_at IS NULL AND created_at > statement_timestamp() - $1::interval`
	var open int
	if err := tx.QueryRow(ctx, count, directory.RehearsalTTL).Scan(&open); err != nil {
		return "", err
	}
	if err := directory.CheckRehearsals(open); err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, `INSERT INTO directory.rehearsals (id, move) VALUES ($1, $2)`, id, string(text))
	return directory.RehearsalID(id), err
}

// Rehearsal implements directory.Rehearsals.
func (s *Store) Rehearsal(ctx context.Context, id directory.RehearsalID) (directory.Rehearsal, error) {
	const busy = `SELECT count(*) FROM directory.rehearsals WHERE ended_at IS NULL AND leased_until > clock_timestamp()`
	r, err := oneRehearsal(ctx, s.pool, noRehearsal(id), `SELECT`+tried+`FROM directory.rehearsals WHERE id = $1`, id)
	if err == nil && r.Ended.IsZero() {
		err = s.pool.QueryRow(ctx, busy).Scan(&r.Busy)
	}
	return r, fail(ctx, "find rehearsal", err)
}

// LeaseRehearsal implements directory.Rehearsals. Each way is one statement on one row, as with moves.
func (s *Store) LeaseRehearsal(ctx context.Context, id directory.RehearsalID, holder string, ttl time.Duration) (directory.Rehearsal, error) {
	if err := directory.CheckLease("", holder, ttl); err != nil {
		return directory.Rehearsal{}, err
	}
	const (
		takeAny = `
			UPDATE directory.rehearsals
			   SET lease = lease + 1, holder = $1, leased_until = clock_timestamp() + $2::interval
			 WHERE id = (SELECT id
			               FROM directory.rehearsals
			              WHERE ended_at IS NULL AND created_at > statement_timestamp() - $3::interval AND` + free + `
			              ORDER BY created_at, id
			              LIMIT 1
			                FOR UPDATE SKIP LOCKED)
			RETURNING` + tried
		takeOne = `
			UPDATE directory.rehearsals
			   SET lease = lease + CASE WHEN holder = $1 THEN 0 ELSE 1 END, holder = $1, leased_until = clock_timestamp() + $2::interval
			 WHERE id = $3 AND ended_at IS NULL AND (holder = $1 OR` + free + `)
			RETURNING` + tried
	)
	sql, which := takeOne, any(id)
	if id == "" {
		sql, which = takeAny, directory.RehearsalTTL
	}
	r, err := oneRehearsal(ctx, s.pool, problem.New(problem.NotFound, "no rehearsal %q is free", id), sql, holder, ttl, which)
	return r, fail(ctx, "lease rehearsal", err)
}

// EndRehearsal implements directory.Rehearsals.
func (s *Store) EndRehearsal(ctx context.Context, said directory.Rehearsal) error {
	return fail(ctx, "end rehearsal", pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		const (
			lock = `SELECT` + tried + `FROM directory.rehearsals WHERE id = $1 FOR UPDATE`
			end  = `
				UPDATE directory.rehearsals
				   SET holder = '', leased_until = NULL, report = $2, ended_at = clock_timestamp()
				 WHERE id = $1`
		)
		old, err := oneRehearsal(ctx, tx, noRehearsal(said.ID), lock, said.ID)
		if err != nil {
			return err
		}
		next, news, err := old.End(said, old.Created) // when that is, the database says
		if err != nil || !news {
			return err
		}
		_, err = tx.Exec(ctx, end, next.ID, string(next.Report))
		return err
	}))
}
