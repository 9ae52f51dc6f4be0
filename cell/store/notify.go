package store

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// notifyTimeout bounds one round of notifications; they are hints.
const notifyTimeout = 2 * time.Second

// maxNotes bounds one statement, and what waits while the database is slow.
const maxNotes = 1024

// A note is one notification.
type note struct{ channel, payload string }

// A notifier sends notes apart from the transactions they come from. What comes
// in while a round is under way goes, each note once, into the next round: the
// busier the cell, the fewer statements per event.
type notifier struct {
	pool *pgxpool.Pool
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	waiting map[note]struct{}
	running bool
}

func newNotifier(pool *pgxpool.Pool) *notifier {
	ctx, stop := context.WithCancel(context.Background()) // ends with the Store
	return &notifier{pool: pool, ctx: ctx, stop: stop, waiting: map[note]struct{}{}}
}

// send adds notes to the next round and starts one if none is under way.
func (n *notifier) send(notes []note) {
	if len(notes) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range notes {
		if len(n.waiting) < maxNotes {
			n.waiting[x] = struct{}{}
		}
	}
	if !n.running && n.ctx.Err() == nil {
		n.running = true
		n.done.Go(n.run)
	}
}

func (n *notifier) run() {
	for {
		channels, payloads := n.take()
		if channels == nil {
			return
		}
		ctx, cancel := context.WithTimeout(n.ctx, notifyTimeout)
		// A lost hint costs a listener one polling interval.
		_, _ = n.pool.Exec(ctx, `SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS n (c, p)`, channels, payloads)
		cancel()
	}
}

// take empties the set; nil where it is empty, and then the round is over.
func (n *notifier) take() (channels, payloads []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 || n.ctx.Err() != nil {
		n.running = false
		return nil, nil
	}
	for x := range n.waiting {
		channels, payloads = append(channels, x.channel), append(payloads, x.payload)
	}
	clear(n.waiting)
	return channels, payloads
}

// close drops what waits and returns when the last round has ended.
func (n *notifier) close() {
	n.mu.Lock()
	n.stop() // under the lock: no round begins after it
	n.mu.Unlock()
	n.done.Wait()
}
