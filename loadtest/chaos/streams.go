package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// streamsGone bounds how long a cell may have streams of a tenant that has left it, from
// the activation or from when everything runs again.
const streamsGone = 15 * time.Second

// A listener is a client that listens to a tenant through all that happens to it, as a
// browser would: where a stream ends it comes back with the last id that it has heard.
type listener struct {
	follower *loadtest.Follower

	mu    sync.Mutex
	heard []string // the events' ids; the first one has number 1
}

func (l *listener) hear(e loadtest.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, e.EventID)
}

func (l *listener) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[:len(l.heard):len(l.heard)]
}

// An audience is those who listen to one tenant: one at each router.
type audience struct {
	listeners []*listener
	leave     func() // ends their streams
}

// listen gives a tenant an audience. A listener that hears a gap, or an event that does
// not follow the one before, is a violation at once.
func (r *run) listen(ctx context.Context, t *loadtest.Tenant) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until leave
	var listening sync.WaitGroup
	a := &audience{leave: func() { cancel(); listening.Wait() }}
	for n := range r.state.Routers {
		l := &listener{follower: t.Follow(n + 1)}
		a.listeners = append(a.listeners, l)
		listening.Go(func() {
			if err := l.follower.Run(ctx, l.hear); err != nil {
				r.violate("I5", "%v", err)
			}
		})
	}
	r.audiences[t.ID] = a
}

// dismiss lets a tenant's audience hear what was written to the end, compares it with
// what was consumed, and ends its streams.
func (r *run) dismiss(ctx context.Context, t *loadtest.Tenant) error {
	a := r.audiences[t.ID]
	events, err := t.Activity(ctx, 0)
	if err != nil {
		return err
	}
	c := StreamCheck{Listeners: len(a.listeners)}
	waiting, cancel := context.WithTimeout(ctx, consumeBound)
	defer cancel()
	for n, l := range a.listeners {
		what := fmt.Sprintf("listener %d of %s to hear %d events", n+1, t.Slug, len(events))
		if err := loadtest.Until(waiting, what, 20*time.Millisecond, func(context.Context) (bool, error) { return len(l.ids()) >= len(events), nil }); err != nil {
			r.violate("I5", "%v", err)
		}
		heard := l.ids()
		if what := otherwise(heard, events); what != "" {
			r.violate("I5", "listener %d of %s: %s", n+1, t.Slug, what)
		}
		c.Heard += len(heard)
	}
	a.leave()
	delete(r.audiences, t.ID)
	for _, l := range a.listeners {
		c.Connections += l.follower.Connected
		c.Refused += len(l.follower.Refused)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Streams = r.report.Streams.plus(c)
	return nil
}

// otherwise says where what was heard is not what was consumed. That it came in order, and
// nothing twice, its follower has seen.
func otherwise(heard []string, events []loadtest.Event) string {
	for i, e := range events {
		switch {
		case i >= len(heard):
			return fmt.Sprintf("heard %d events of %d", len(heard), len(events))
		case heard[i] != e.EventID:
			return fmt.Sprintf("event %d was heard as %s and is %s", e.Seq, heard[i], e.EventID)
		}
	}
	if len(heard) > len(events) {
		return fmt.Sprintf("heard %d events, %d were consumed", len(heard), len(events))
	}
	return ""
}

// checkStreams holds that soon after the activation no cell has a stream of a tenant that
// lives elsewhere: as many streams as there are listeners of its own tenants, or fewer, for
// some are on their way back. exactly wants all of them.
func (r *run) checkStreams(ctx context.Context, exactly bool) error {
	want := map[directory.CellID]int{}
	for _, t := range r.movers {
		owner, err := r.owner(ctx, t.ID)
		if err != nil {
			return err
		}
		want[owner.Cell] += len(r.audiences[t.ID].listeners)
	}
	until := r.streamsDue(exactly)
	for _, c := range r.state.Cells {
		for n := want[directory.CellID(c.ID)]; ; {
			m, err := loadtest.Scrape(ctx, c.Admin)
			open := int(m.Sum("cell_streams_open"))
			if err == nil && (open == n || open < n && !exactly) {
				break
			}
			if time.Now().After(until) {
				if err != nil {
					return err
				}
				r.violate("streams", "%s has %d streams, and %d listen to tenants of its own", c.ID, open, n)
				break
			}
			if !loadtest.Pause(ctx, 50*time.Millisecond) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// streamsDue is when the streams of moved tenants must have ended, but no earlier than in a
// second: one that ends, or is refused, just now is there for a moment. Where all listeners
// are to be back, it is so long from now.
func (r *run) streamsDue(back bool) time.Time {
	if back {
		return time.Now().Add(streamsGone)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	due := r.healed
	for _, at := range r.switched {
		if at.After(due) {
			due = at
		}
	}
	if due, soon := due.Add(streamsGone), time.Now().Add(time.Second); due.After(soon) {
		return due
	}
	return time.Now().Add(time.Second)
}
