package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// lift has the version go on above since, which a router serves and the record, at now,
// has never had or has lost. The new head is nobody's, so that no table continues: each
// router takes a snapshot, past its guard. A record without a tenant is not lifted: it is
// rather the wrong one, and routers have a better one. Neither is one that has long been
// in its database: another one, that a failover led to, has what the router serves.
func (s *Store) lift(ctx context.Context, router string, since, now directory.Version) error {
	to, lifts := directory.LiftedBy(since, now)
	if !lifts {
		return gone(since)
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	lifted := false
	err := s.mutate(ctx, "lift version", func(tx pgx.Tx) (*change, error) {
		const above = `
			UPDATE directory.version
			   SET version = $2, oldest = $2, head = sha256(uuid_send(gen_random_uuid())), lifted_at = now()
			 WHERE version < $1
			   AND COALESCE(lifted_at < now() - $3::interval, true)
			   AND home_at > now() - $4::interval
			   AND EXISTS (SELECT FROM directory.tenants)
			RETURNING pg_notify('` + channel + `', '` + aboutTable + `') IS NULL`
		tag, err := tx.Exec(ctx, above, int64(since), int64(to), directory.LiftPause, directory.LiftWithin)
		if lifted = tag.RowsAffected() > 0; err != nil || !lifted {
			return nil, err // another router has been faster, or it is none to be lifted
		}
		return &change{
			action: "table.lift", subject: "table",
			before: map[string]any{"version": now}, after: map[string]any{"version": to, "router": router, "serves": since},
		}, nil
	})
	if err == nil && lifted {
		return problem.Wrap(problem.Gone, directory.ErrLifted, "start again from a snapshot")
	}
	if err == nil {
		err = gone(since)
	}
	return err
}

// gone is the error of a version that cannot be continued from.
func gone(since directory.Version) error {
	return problem.New(problem.Gone, "cannot continue from version %d", since)
}
