package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
)

// A Leaser keeps leases as advisory locks, each on a connection of its own: the
// lock and the connection end together, whoever ends them.
type Leaser struct{ cfg *pgx.ConnConfig }

var _ directory.Leaser = (*Leaser)(nil)

// Leaser is the store's.
func (s *Store) Leaser() *Leaser { return &Leaser{ownConn(s.pool)} }

// Acquire implements directory.Leaser. The holder is the connection's
// application_name in pg_stat_activity.
func (l *Leaser) Acquire(ctx context.Context, name, holder string) (directory.Lease, error) {
	cfg := l.cfg.Copy()
	cfg.RuntimeParams["application_name"] = "lease " + name + " " + holder
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fail(ctx, "acquire lease "+name, err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey(name)); err != nil {
		hangUp(ctx, conn)
		return nil, fail(ctx, "acquire lease "+name, err)
	}
	held := &lease{done: make(chan struct{})}
	held.ctx, held.end = context.WithCancelCause(ctx)
	go held.hold(conn)
	return held, nil
}

// lockKey is the lock's number. Two names that collide would exclude each other,
// which is safe.
func lockKey(name string) int64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "cellway directory lease %s", name)
	return int64(h.Sum64()) // any 64 bits will do
}

type lease struct {
	ctx  context.Context
	end  context.CancelCauseFunc
	once sync.Once
	done chan struct{} // the connection is closed
}

// Context implements directory.Lease.
func (l *lease) Context() context.Context { return l.ctx }

// Release implements directory.Lease.
func (l *lease) Release() error {
	l.once.Do(func() { l.end(context.Canceled) })
	<-l.done
	return nil
}

// leasePoll is how often a held lease asks the server whether it is still there.
// A connection that the server ends is seen at once; this finds a network that
// lost both ends of each other, while the server still keeps the lock, for half a
// minute (pg.Open).
const leasePoll = 2 * time.Second

// hold watches the connection and ends the lease with it.
func (l *lease) hold(conn *pgx.Conn) {
	defer close(l.done)
	defer hangUp(l.ctx, conn)
	for {
		err := l.watch(conn)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			l.end(fmt.Errorf("lease lost: %w", err))
			return
		}
	}
}

// watch waits on the connection for leasePoll, then asks the server.
func (l *lease) watch(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(l.ctx, leasePoll)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); err != nil && !pgconn.Timeout(err) {
		return err
	}
	return deadline(l.ctx, conn.Ping)
}
