package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// A Membership keeps who is alive in the record's heartbeat rows, the same ones
// that Store.Heartbeat writes.
type Membership struct{ store *Store }

var _ directory.Membership = (*Membership)(nil)

// Membership is the store's.
func (s *Store) Membership() *Membership { return &Membership{s} }

// beat notes that a cell is alive.
func beat(ctx context.Context, db pg.DB, m directory.Member) error {
	const upsert = `
		INSERT INTO directory.heartbeats (cell, address, incarnation) VALUES ($1, $2, $3)
		    ON CONFLICT (cell) DO UPDATE
		   SET address = EXCLUDED.address, incarnation = EXCLUDED.incarnation, seen_at = now()`
	_, err := db.Exec(ctx, upsert, m.ID, m.Address, m.Incarnation)
	return err
}

// Join implements directory.Membership.
func (m *Membership) Join(ctx context.Context, c directory.Cell) error {
	if err := c.Validate(); err != nil {
		return err
	}
	member := directory.Member{ID: c.ID, Address: c.Address, Incarnation: c.Incarnation}
	if err := m.announce(ctx, member); err != nil {
		return fail(ctx, "join", err)
	}
	m.store.work.Go(func() { m.keepAlive(ctx, member) })
	return nil
}

// announce notes a heartbeat and tells who waits in Members.
func (m *Membership) announce(ctx context.Context, member directory.Member) error {
	return deadline(ctx, func(ctx context.Context) error {
		return pg.InTx(ctx, m.store.pool, func(tx pgx.Tx) error {
			if err := beat(ctx, tx, member); err != nil {
				return err
			}
			return wake(ctx, tx, aboutMembers)
		})
	})
}

// keepAlive announces again and again until ctx ends or the store closes.
func (m *Membership) keepAlive(ctx context.Context, member directory.Member) {
	tick := time.NewTicker(directory.HeartbeatTTL / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			err := deadline(ctx, func(ctx context.Context) error { return beat(ctx, m.store.pool, member) })
			if err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "announce cell", "cell", member.ID, "error", err)
			}
		case <-ctx.Done():
			m.leave(context.WithoutCancel(ctx), member)
			return
		case <-m.store.hub.closed:
			return
		}
	}
}

// leave takes a member off, unless another incarnation has come since. Its ctx
// does not end with the membership's, which has ended already.
func (m *Membership) leave(ctx context.Context, member directory.Member) {
	err := deadline(ctx, func(ctx context.Context) error {
		return pg.InTx(ctx, m.store.pool, func(tx pgx.Tx) error {
			const remove = `DELETE FROM directory.heartbeats WHERE cell = $1 AND incarnation = $2`
			if _, err := tx.Exec(ctx, remove, member.ID, member.Incarnation); err != nil {
				return err
			}
			return wake(ctx, tx, aboutMembers)
		})
	})
	if err != nil { // it is forgotten after HeartbeatTTL
		slog.WarnContext(ctx, "take cell off", "cell", member.ID, "error", err)
	}
}

// membersPoll is how soon Members finds a cell that fell silent, of which nobody
// tells.
const membersPoll = 500 * time.Millisecond

// Members implements directory.Membership.
func (m *Membership) Members(ctx context.Context, index uint64, wait time.Duration) ([]directory.Member, uint64, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	poll := time.NewTicker(membersPoll)
	defer poll.Stop()
	for last := wait <= 0; ; {
		newer := m.store.hub.newer(aboutMembers)
		members, err := m.alive(ctx)
		if err != nil {
			return nil, 0, fail(ctx, "list members", err)
		}
		if now := directory.MembersIndex(members); now != index || last {
			return members, now, nil
		}
		select {
		case <-newer:
		case <-poll.C:
		case <-over.C:
			last = true
		case <-ctx.Done():
			return nil, 0, fail(ctx, "list members", ctx.Err())
		}
	}
}

func (m *Membership) alive(ctx context.Context) ([]directory.Member, error) {
	rows, err := m.store.pool.Query(ctx, `
		SELECT cell, address, incarnation
		  FROM directory.heartbeats
		 WHERE seen_at > now() - `+ttl+`
		 ORDER BY cell`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[directory.Member])
}
