package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Listen calls heard with the payload of each notification on channel, and with
// "" whenever it has (re)connected: then any number may have been missed. heard
// must not block. Listen returns nil when ctx ends or the Store is closed, and
// heard is not called after it.
//
// All listeners of a Store share one session: Postgres wakes every listening
// session of a database at every notification, whatever it listens for.
func (s *Store) Listen(ctx context.Context, channel string, heard func(payload string)) error {
	sub := &subscription{channel: channel, heard: heard}
	s.listener.add(sub)
	defer s.listener.remove(sub)
	select {
	case <-ctx.Done():
	case <-s.listener.ctx.Done():
	}
	return nil
}

// silence is how long a session may hear nothing before it has to prove that it lives.
const silence = 15 * time.Second

// A subscription is one call of Listen.
type subscription struct {
	channel string
	heard   func(payload string)
	told    bool // that it is connected
}

// A listener owns the session, while there are subscriptions.
type listener struct {
	store *Store
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu      sync.Mutex
	subs    []*subscription
	running bool
	waiting context.CancelFunc // ends the wait for a notification; nil where there is none
}

func newListener(s *Store) *listener {
	ctx, stop := context.WithCancel(context.Background()) // ends with the Store
	return &listener{store: s, ctx: ctx, stop: stop}
}

func (l *listener) add(sub *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, sub)
	l.interrupt()
	if !l.running && l.ctx.Err() == nil {
		l.running = true
		l.done.Go(l.run)
	}
}

func (l *listener) remove(sub *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = slices.DeleteFunc(l.subs, func(o *subscription) bool { return o == sub })
	l.interrupt()
}

// interrupt lets the session see that the subscriptions are others.
func (l *listener) interrupt() {
	if l.waiting != nil {
		l.waiting()
	}
}

// run listens, again after every error, until nobody subscribes.
func (l *listener) run() {
	for l.wanted() {
		if err := l.session(); err != nil && l.ctx.Err() == nil {
			slog.WarnContext(l.ctx, "notifications lost", "error", err)
			Wait(l.ctx, time.Second)
		}
	}
}

// wanted says whether anybody subscribes; where nobody does the run is over.
func (l *listener) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = len(l.subs) > 0 && l.ctx.Err() == nil
	for _, sub := range l.subs {
		sub.told = false
	}
	return l.running
}

// session listens with one session until it fails or nobody subscribes.
func (l *listener) session() error {
	conn, err := l.store.session(l.ctx)
	if err != nil {
		return err
	}
	defer closeSession(l.ctx, conn)
	defer l.forget()
	channels := map[string]bool{}
	for {
		news, wait, ok := l.next(channels)
		if !ok {
			return nil
		}
		for _, channel := range news {
			if err := within(l.ctx, func(ctx context.Context) error {
				_, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{channel}.Sanitize())
				return err
			}); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			channels[channel] = true
		}
		l.tell(channels)
		n, err := conn.WaitForNotification(wait)
		switch {
		case err == nil:
			l.heard(n.Channel, n.Payload)
		case wait.Err() == nil || l.ctx.Err() != nil:
			return fmt.Errorf("wait for notification: %w", err)
		case errors.Is(wait.Err(), context.DeadlineExceeded):
			if err := within(l.ctx, conn.Ping); err != nil {
				return fmt.Errorf("listen in vain: %w", err)
			}
		}
	}
}

// within bounds one statement of the session.
func within(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	return f(ctx)
}

// next are the channels to listen on besides those that are, and the context of the
// next wait; ok is false where nobody subscribes.
func (l *listener) next(channels map[string]bool) (news []string, wait context.Context, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt() // the last wait is over: let go of its context
	wait, l.waiting = context.WithTimeout(l.ctx, silence)
	for _, sub := range l.subs {
		if !channels[sub.channel] && !slices.Contains(news, sub.channel) {
			news = append(news, sub.channel)
		}
	}
	return news, wait, len(l.subs) > 0
}

// tell tells who does not know it yet that it is connected.
func (l *listener) tell(channels map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.subs {
		if channels[sub.channel] && !sub.told {
			sub.told = true
			sub.heard("")
		}
	}
}

func (l *listener) heard(channel, payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sub := range l.subs {
		if sub.channel == channel {
			sub.heard(payload)
		}
	}
}

// forget lets go of the last wait's context.
func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupt()
	l.waiting = nil
}

// close ends the session and returns when it has ended.
func (l *listener) close() {
	l.mu.Lock()
	l.stop() // under the lock: no run begins after it
	l.mu.Unlock()
	l.done.Wait()
}
