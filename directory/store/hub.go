package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// channel is what every process listens on and every publishing commit notifies.
const channel = "directory"

// safetyPoll is how often the listener looks at the versions though nobody told
// it to: a connection that died silently is found within this time.
const safetyPoll = time.Second

// A hub wakes, in this process, who waits for a commit in any process.
type hub struct {
	mu     sync.Mutex
	next   chan struct{} // closed and replaced by wake
	closed chan struct{}
	once   sync.Once
}

func newHub() *hub { return &hub{next: make(chan struct{}), closed: make(chan struct{})} }

// newer is closed at the next wake.
func (h *hub) newer() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next
}

func (h *hub) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.next)
	h.next = make(chan struct{})
}

func (h *hub) close() { h.once.Do(func() { close(h.closed) }) }

// run listens until ctx ends, on one connection after the other.
func (h *hub) run(ctx context.Context, pool *pgxpool.Pool) {
	for ctx.Err() == nil {
		err := h.listen(ctx, ownConn(pool))
		if ctx.Err() != nil {
			return
		}
		slog.WarnContext(ctx, "listen for changes", "error", err)
		select {
		case <-time.After(100*time.Millisecond + rand.N(400*time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

// ownConn is how to open a connection beside the pool. It is not traced: what it
// does belongs to no request.
func ownConn(pool *pgxpool.Pool) *pgx.ConnConfig {
	cfg := pool.Config().ConnConfig
	cfg.Tracer = nil
	return cfg
}

// listen wakes the waiting for as long as one connection lives.
func (h *hub) listen(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	if err := deadline(ctx, func(ctx context.Context) error {
		_, err := conn.Exec(ctx, "LISTEN "+channel)
		return err
	}); err != nil {
		return err
	}
	h.wake() // for what was committed while nobody listened
	var at int64
	for {
		before := at
		err := heard(ctx, conn)
		if err == nil {
			h.wake()
			continue
		}
		if ctx.Err() != nil || !pgconn.Timeout(err) {
			return err
		}
		if err := deadline(ctx, func(ctx context.Context) error {
			const both = `SELECT t.version + c.version FROM directory.version t, directory.credentials c`
			return conn.QueryRow(ctx, both).Scan(&at)
		}); err != nil {
			return fmt.Errorf("poll version: %w", err)
		}
		if at != before {
			h.wake()
		}
	}
}

// heard waits for a notification, at most for safetyPoll.
func heard(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, safetyPoll)
	defer cancel()
	_, err := conn.WaitForNotification(ctx)
	return err
}

// queryTimeout bounds a short statement of our own background work.
const queryTimeout = 2 * time.Second

func deadline(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return f(ctx)
}

// hangUp closes a connection also when ctx has ended, which is why it is closed.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the server ends the session either way
}
