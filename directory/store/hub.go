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

	"github.com/cellway/cellway/infra/run"
)

// channel is what every process listens on and every publishing commit notifies, with
// the topic of what it has changed.
const channel = "directory"

// The topics. What a release of before says, "", is of all of them.
const (
	aboutTable       = "table" // a version of the table, a router's part in a roll-out
	aboutCredentials = "credentials"
	aboutMembers     = "members"
)

// safetyPoll is how often the listener looks at the versions though nobody told
// it to: a connection that died silently is found within this time.
const safetyPoll = time.Second

// A hub wakes, in this process, who waits for a commit in any process.
type hub struct {
	mu     sync.Mutex
	next   map[string]chan struct{} // by topic; closed and replaced by wake
	closed chan struct{}
	once   sync.Once
}

func newHub() *hub {
	h := &hub{next: map[string]chan struct{}{}, closed: make(chan struct{})}
	for _, topic := range []string{aboutTable, aboutCredentials, aboutMembers} {
		h.next[topic] = make(chan struct{})
	}
	return h
}

// newer is closed at the topic's next wake.
func (h *hub) newer(topic string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next[topic]
}

// wake wakes who waits for a topic; for one that it does not know, all.
func (h *hub) wake(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.next[topic]
	for t, waiting := range h.next {
		if t == topic || !known {
			close(waiting)
			h.next[t] = make(chan struct{})
		}
	}
}

func (h *hub) close() { h.once.Do(func() { close(h.closed) }) }

// wake wakes who waits for a topic in every process, once the transaction has committed.
func wake(ctx context.Context, tx pgx.Tx, topic string) error {
	_, err := tx.Exec(ctx, `SELECT pg_notify($1, $2)`, channel, topic)
	return err
}

// run listens until ctx ends, on one connection after the other. begin is called with
// each, until it succeeds, beside the listening: waiting for it wakes nobody late, and
// no notification keeps it from being tried again.
func (h *hub) run(ctx context.Context, pool *pgxpool.Pool, begin func(context.Context) error) {
	for ctx.Err() == nil {
		err := h.listen(ctx, ownConn(pool), begin)
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
func (h *hub) listen(ctx context.Context, cfg *pgx.ConnConfig, begin func(context.Context) error) error {
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
	h.wake("") // for what was committed while nobody listened
	beside, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	work.Go(func() { begins(beside, begin) })
	var at int64
	for {
		before := at
		topic, err := heard(ctx, conn)
		if err == nil {
			h.wake(topic)
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
			h.wake("")
		}
	}
}

// begins calls begin until it has done what it has to.
func begins(ctx context.Context, begin func(context.Context) error) {
	for {
		err := deadline(ctx, begin)
		if err == nil || ctx.Err() != nil {
			return
		}
		slog.WarnContext(ctx, "begin to listen for changes", "error", err)
		if !run.Pause(ctx, safetyPoll) {
			return
		}
	}
}

// heard waits for a notification, at most for safetyPoll, and tells its topic.
func heard(ctx context.Context, conn *pgx.Conn) (topic string, err error) {
	ctx, cancel := context.WithTimeout(ctx, safetyPoll)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	if err != nil {
		return "", err
	}
	return n.Payload, nil
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
