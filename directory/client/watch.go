package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// WatchOptions say what to follow and what to do with it.
type WatchOptions struct {
	// Router acknowledges, with each request, the version that Apply returned
	// from last; "" follows without being counted.
	Router string
	// From is the version that the caller's table is at, for example from its
	// copy on disk; 0 begins with a snapshot.
	From directory.Version
	// Wait is how long one long poll waits, and so how often a table hears that it
	// is up to date; 0 is a second.
	Wait time.Duration
	// Apply brings the caller's table to u.Version, or fails and leaves it as it
	// is. Updates come one at a time and in order: u.Since 0 replaces the whole
	// table, any other u.Since is the version of the update before. After a
	// failure the next update is a snapshot.
	Apply func(ctx context.Context, u directory.Update) error
	// Alive, unless nil, hears of each answer of the directory, also one that
	// brings nothing: at that moment the table was as new as version.
	Alive func(version directory.Version)
	// Failed, unless nil, hears of each failure and of the pause before the next
	// attempt. The table stays as it is meanwhile.
	Failed func(err error, pause time.Duration)
}

const (
	beat       = time.Second
	firstPause = 100 * time.Millisecond
	// silentPause is the most between two attempts while the directory does not
	// answer, so that a table that was cut off for long is up to date within a
	// second of healing; mostPause is the most after an answer that was a failure.
	silentPause = 500 * time.Millisecond
	mostPause   = 5 * time.Second
	// refusedPause is before the next snapshot where the table refuses them: an
	// operator has to do something.
	refusedPause = 10 * time.Second
	// latePoll is how much later than asked a long poll may answer. What takes
	// longer is on a connection that died silently: a new one is tried.
	latePoll = time.Second
)

// Watch keeps a table up to date with feed until ctx ends, then returns nil. A
// directory that is dead or slow stops nothing: Watch tries again, with jittered
// pauses of at most half a second while it is silent, for as long as it takes.
//
// The table never goes backwards. If the directory has lost versions (it was
// restored from an old backup), Watch keeps the newer table and reports so with
// each attempt, until the directory's version has passed the table's.
func Watch(ctx context.Context, feed directory.Feed, o WatchOptions) error {
	if o.Apply == nil {
		return errors.New("watch the table: nothing to apply it to")
	}
	w := &watch{WatchOptions: o, feed: feed, at: o.From, whole: o.From == 0}
	if w.Wait <= 0 {
		w.Wait = beat
	}
	for failures := 0; ctx.Err() == nil; {
		err := w.runOnce(ctx)
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		failures++
		most := mostPause
		if unanswered(err) || errors.Is(err, context.DeadlineExceeded) {
			most = silentPause
		}
		d := backoff(failures, firstPause, most)
		if errors.Is(err, problem.Conflict) {
			d = refusedPause // a snapshot may be large
		}
		if w.Failed != nil {
			w.Failed(err, d)
		}
		_ = pause(ctx, d) // the loop looks at ctx
	}
	return nil
}

type watch struct {
	WatchOptions
	feed  directory.Feed
	at    directory.Version // what the table is at
	whole bool              // the next update must be a snapshot
	// silent is true after a failure: the next poll does not wait, and is given the
	// time that a slow directory needs.
	silent bool
}

// runOnce brings the table one update further.
func (w *watch) runOnce(ctx context.Context) error {
	u, err := w.next(ctx)
	if err != nil {
		w.silent = true
		w.whole = w.whole || errors.Is(err, problem.Gone)
		return err
	}
	if w.whole || u.Version > w.at {
		if err := w.Apply(ctx, u); err != nil {
			w.whole = true
			return fmt.Errorf("apply table version %d: %w", u.Version, err)
		}
		w.at, w.whole = u.Version, false
	}
	w.silent = false
	if w.Alive != nil {
		w.Alive(w.at)
	}
	return nil
}

// next asks for the next update and checks that it continues the table.
func (w *watch) next(ctx context.Context) (directory.Update, error) {
	if w.whole {
		u, err := w.feed.Snapshot(ctx)
		if err == nil && (u.Version < w.at || u.Since != 0) {
			err = fmt.Errorf("the directory is at version %d, behind this table's %d", u.Version, w.at)
		}
		return u, err
	}
	u, err := w.poll(ctx)
	if err == nil && (u.Since != w.at || u.Version < w.at) {
		err = fmt.Errorf("asked for changes since %d, got %d to %d", w.at, u.Since, u.Version)
	}
	return u, err
}

// poll asks for changes: in good times it waits for them, for a beat.
func (w *watch) poll(ctx context.Context) (directory.Update, error) {
	if w.silent {
		return w.feed.Changes(ctx, w.Router, w.at, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, w.Wait+latePoll)
	defer cancel()
	return w.feed.Changes(ctx, w.Router, w.at, w.Wait)
}
