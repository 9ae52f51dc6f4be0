package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// sessionLock marks our session locks, in the top byte; see cell.lock_key.
const sessionLock int64 = 0x7D << 56

// ownEvery is how often a session looks for locks that came free and proves that
// it lives. The locks of a killed process are free at once, those of a machine that is
// gone when the server has noticed (pg.Open).
const ownEvery = 200 * time.Millisecond

// sessionTimeout bounds one statement of a session of its own.
const sessionTimeout = 5 * time.Second

// LockKey is the key of a session lock: name and one of up to 256 parts.
func LockKey(name string, part uint8) int64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return sessionLock | int64(h.Sum64()>>16)<<8 | int64(part)
}

// Own takes each of the keys' session locks as it comes free and runs fn for it,
// which returns when its ctx ends: with Own's ctx, or when the connection that
// holds the locks is lost. Of two processes that own the same keys one runs fn
// for a key and the other waits; for a moment after a lost connection both may,
// so correctness rests on rows, not on this. It returns nil when ctx ends.
func (s *Store) Own(ctx context.Context, keys []int64, fn func(ctx context.Context, i int)) error {
	for ctx.Err() == nil {
		if err := s.ownOnce(ctx, keys, fn); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "locks lost", "error", err)
		}
		Wait(ctx, time.Second)
	}
	return nil
}

func (s *Store) ownOnce(ctx context.Context, keys []int64, fn func(ctx context.Context, i int)) error {
	conn, err := s.session(ctx)
	if err != nil {
		return err
	}
	lease, end := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer func() { // the locks go with the connection, so it goes last
		end()
		working.Wait()
		closeSession(ctx, conn)
	}()
	held := make(map[int64]bool, len(keys))
	for ctx.Err() == nil {
		if err := takeFree(ctx, conn, keys, held, func(i int) {
			working.Go(func() { fn(lease, i) })
		}); err != nil {
			return err
		}
		Wait(ctx, ownEvery)
	}
	return nil
}

// takeFree tries the keys that are not held and calls got for each one taken. It
// asks the server also when all are held: a dead session must be noticed.
func takeFree(ctx context.Context, conn *pgx.Conn, keys []int64, held map[int64]bool, got func(i int)) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	want := make([]int64, 0, len(keys))
	for _, k := range keys {
		if !held[k] {
			want = append(want, k)
		}
	}
	rows, err := conn.Query(ctx, `SELECT k FROM unnest($1::bigint[]) AS u (k) WHERE pg_try_advisory_lock(k)`, want)
	if err != nil {
		return fmt.Errorf("take locks: %w", err)
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("take locks: %w", err)
	}
	for _, k := range taken {
		held[k] = true
	}
	for i, k := range keys {
		if slices.Contains(taken, k) {
			got(i)
		}
	}
	return nil
}

// InSession runs fn with one session, outside the pool. No session outlives its server: what
// fn reads and what it then writes is of one run of it, or fails.
func (s *Store) InSession(ctx context.Context, fn func(db pg.DB) error) error {
	conn, err := s.session(ctx)
	if err != nil {
		return err
	}
	defer closeSession(ctx, conn)
	if err := within(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `SET idle_session_timeout = 0`) // fn may do something else for long
		return err
	}); err != nil {
		return fmt.Errorf("begin session: %w", err)
	}
	return fn(conn)
}

// session is a connection outside the pool. Nothing it does belongs to a trace.
func (s *Store) session(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	cfg := s.pool.Config().ConnConfig
	cfg.Tracer = nil
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect session: %w", err)
	}
	return conn, nil
}

// closeSession says goodbye to the server even when ctx has ended.
func closeSession(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is gone either way
}

// Jitter is a duration between half and one and a half of d, so that processes
// started together do not stay in step.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(max(d, 1)) }

// Wait waits for Jitter(d). It ends early with ctx.
func Wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(Jitter(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
