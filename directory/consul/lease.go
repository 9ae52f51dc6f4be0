package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/cellway/cellway/directory"
)

const (
	// keyPrefix is where the locks are.
	keyPrefix = "cellway/lease/"
	// sessionTTL is the shortest that Consul allows. Consul ends a session that
	// long after its last renewal, or later; the holder counts from before the
	// renewal, so it stops first.
	sessionTTL = 10 * time.Second
	// lockDelay keeps a lock free for a moment after its session was lost, so that
	// what the old holder sent last arrives before the new one starts.
	lockDelay = time.Second
)

// A Leaser keeps leases as locks of sessions.
type Leaser struct{ client *Client }

var _ directory.Leaser = (*Leaser)(nil)

// Leaser is the agent's.
func (c *Client) Leaser() *Leaser { return &Leaser{c} }

// Acquire implements directory.Leaser. The holder is the lock's value.
func (l *Leaser) Acquire(ctx context.Context, name, holder string) (directory.Lease, error) {
	session, start, err := l.begin(ctx, name, holder)
	if err != nil {
		return nil, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	held := &lease{api: l.client.api, session: session, key: keyPrefix + name}
	held.ctx, held.end = context.WithCancelCause(ctx)
	held.work.Go(func() { held.renew(start) })
	if err := held.lock(holder); err != nil {
		held.finish()
		return nil, fmt.Errorf("acquire lease %s: %w", name, err)
	}
	held.work.Go(held.watch)
	context.AfterFunc(held.ctx, held.finish) // however it ended
	return held, nil
}

// attempts bounds how often a session is asked for: an agent that has just
// started refuses until it has announced its own node.
const attempts = 5

// begin makes a session and says when it began at the earliest.
func (l *Leaser) begin(ctx context.Context, name, holder string) (session string, start time.Time, err error) {
	for n := 1; ; n++ {
		start = time.Now()
		session, err = l.create(ctx, name, holder)
		if err == nil || n == attempts || pause(ctx, 200*time.Millisecond<<n) != nil {
			return session, start, err
		}
	}
}

func (l *Leaser) create(ctx context.Context, name, holder string) (string, error) {
	ctx, cancel := short(ctx)
	defer cancel()
	id, _, err := l.client.api.Session().CreateNoChecks(&api.SessionEntry{
		Name: "cellway lease " + name + " of " + holder, TTL: sessionTTL.String(), LockDelay: lockDelay, Behavior: api.SessionBehaviorRelease,
	}, (&api.WriteOptions{}).WithContext(ctx))
	return id, err
}

type lease struct {
	api     *api.Client
	session string
	key     string
	ctx     context.Context
	end     context.CancelCauseFunc
	work    sync.WaitGroup // renew and watch
	once    sync.Once
}

var errLost = errors.New("the session is gone")

// Context implements directory.Lease.
func (l *lease) Context() context.Context { return l.ctx }

// Release implements directory.Lease.
func (l *lease) Release() error {
	l.finish()
	return nil
}

// finish ends the lease, waits for its goroutines and gives the lock back. What
// it cannot give back, Consul takes when the session runs out.
func (l *lease) finish() {
	l.once.Do(func() {
		l.end(context.Canceled)
		l.work.Wait()
		// l.ctx has ended; this needs a moment of its own. First the lock, which is
		// free at once then, whereas a session that ends with it brings the delay.
		ctx, cancel := short(context.WithoutCancel(l.ctx))
		defer cancel()
		opts := (&api.WriteOptions{}).WithContext(ctx)
		_, _, err := l.api.KV().Release(&api.KVPair{Key: l.key, Session: l.session}, opts)
		if err == nil {
			_, err = l.api.Session().Destroy(l.session, opts)
		}
		if err != nil {
			slog.WarnContext(ctx, "give lease back", "lease", l.key, "error", err)
		}
	})
}

// lock waits for the lock.
func (l *lease) lock(holder string) error {
	for {
		taken, err := l.try(holder)
		if err != nil || taken {
			return err
		}
		if err := l.free(); err != nil {
			return err
		}
	}
}

func (l *lease) try(holder string) (bool, error) {
	ctx, cancel := short(l.ctx)
	defer cancel()
	pair := &api.KVPair{Key: l.key, Value: []byte(holder), Session: l.session}
	taken, _, err := l.api.KV().Acquire(pair, (&api.WriteOptions{}).WithContext(ctx))
	return taken, l.cause(err)
}

// free waits until nobody has the lock; within the delay nobody can take it
// either, so it may be free and refused for a moment.
func (l *lease) free() error {
	for index := uint64(0); ; {
		owner, next, err := l.owner(index)
		if err != nil {
			return l.cause(err)
		}
		if owner == "" {
			return l.cause(pause(l.ctx, lockDelay/5))
		}
		index = next
	}
}

// owner is the session that has the lock, once something is newer than index.
func (l *lease) owner(index uint64) (session string, next uint64, err error) {
	opts, cancel := blocking(l.ctx, index, pollTime)
	defer cancel()
	opts.RequireConsistent = true
	pair, meta, err := l.api.KV().Get(l.key, opts)
	if err != nil {
		return "", 0, err
	}
	if meta.LastIndex < index {
		meta.LastIndex = 0 // Consul started over
	}
	if pair == nil {
		return "", meta.LastIndex, nil
	}
	return pair.Session, meta.LastIndex, nil
}

// cause is why the lease ended, where that is why err happened.
func (l *lease) cause(err error) error {
	if err != nil && l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return err
}

// renew keeps the session alive and ends the lease when it is not, at the latest
// sessionTTL after the start of the last renewal that succeeded, pauses included: an agent
// that is dead refuses at once.
func (l *lease) renew(last time.Time) {
	for {
		ctx, cancel := context.WithDeadline(l.ctx, last.Add(sessionTTL))
		err := pause(ctx, sessionTTL/4)
		start := time.Now()
		var entry *api.SessionEntry
		if err == nil {
			entry, _, err = l.api.Session().Renew(l.session, (&api.WriteOptions{}).WithContext(ctx))
		}
		cancel()
		switch {
		case l.ctx.Err() != nil:
			return
		case err == nil && entry != nil:
			last = start
		case err == nil:
			l.end(errLost)
			return
		case time.Since(last) >= sessionTTL:
			l.end(fmt.Errorf("lease not renewed in time: %w", err))
			return
		}
	}
}

// watch ends the lease when another session, or none, has the lock.
func (l *lease) watch() {
	for index := uint64(0); l.ctx.Err() == nil; {
		owner, next, err := l.owner(index)
		if err != nil { // renew decides how long that is bearable
			index = 0
			_ = pause(l.ctx, time.Second)
			continue
		}
		if owner != l.session {
			l.end(errLost)
			return
		}
		index = next
	}
}
