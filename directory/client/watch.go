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
	// Wait is how long one long poll waits; 0 is 25 s.
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
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

// Watch keeps a table up to date with feed until ctx ends, then returns nil. A
// directory that is dead or slow stops nothing: Watch tries again, with jittered
// pauses of at most 5 s, for as long as it takes.
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
		w.Wait = longestPoll
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
		d := backoff(failures, firstPause, mostPause)
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
}

// runOnce brings the table one update further.
func (w *watch) runOnce(ctx context.Context) error {
	u, err := w.next(ctx)
	if err != nil {
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
	u, err := w.feed.Changes(ctx, w.Router, w.at, w.Wait)
	if err == nil && (u.Since != w.at || u.Version < w.at) {
		err = fmt.Errorf("asked for changes since %d, got %d to %d", w.at, u.Since, u.Version)
	}
	return u, err
}
