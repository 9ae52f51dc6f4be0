package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/run"
)

// WatchOptions say what to follow and what to do with it.
type WatchOptions struct {
	// Router acknowledges, with each request, the version that Apply returned
	// from last; "" follows without being counted.
	Router string
	// At is the version that the caller's table is at, for example from its copy on disk:
	// others bring it further, too, and a directory that is behind it has to hear of that.
	// nil, or 0, begins with a snapshot.
	At func() directory.Version
	// Poll, unless nil, is asked in place of the feed's Changes: see directory.Rollouts.
	// Updates that it brings for the sake of their Part are applied, too.
	Poll func(ctx context.Context, router string, since directory.Version, wait time.Duration) (directory.Update, error)
	// Wait is how long one long poll waits, and so how often a table hears that it
	// is up to date; 0 is a second.
	Wait time.Duration
	// Apply brings the caller's table to u.Version, or fails and leaves it as it
	// is. Updates come one at a time and in order: u.Since 0 replaces the whole
	// table, any other u.Since is the version of the update before. After a
	// failure the next update is a snapshot. A Conflict says that the table does not
	// want what changed: it is asked for again, all at once, from where the table is.
	// directory.ErrPart says that the table is at u.Version all the same.
	Apply func(ctx context.Context, u directory.Update) error
	// Alive, unless nil, hears of each answer of the directory, also one that
	// brings nothing: at that moment the table was as new as u.Version. It may fail
	// where the table is at u.Version and does not have u.Head.
	Alive func(u directory.Update) error
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
	// refusedPause is the most between two polls where the table refuses what they
	// bring, until an operator does something. The directory takes the router for
	// alive meanwhile, and the router hears of the end of a roll-out.
	refusedPause = 3 * time.Second
	// refusedWhole is the least between two snapshots where the table refuses them.
	refusedWhole = 10 * time.Second
	// wholePause is the most between two snapshots that nothing but a breach asked
	// for, so that a feed that is always wrong costs the directory little; changes
	// are asked for meanwhile, and one that continues the table ends it.
	wholePause = 10 * time.Second
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
// each attempt, until the directory's version has passed the table's: the directory lifts
// it at the first question of a Router that is ahead, see directory.ErrLifted.
func Watch(ctx context.Context, feed directory.Feed, o WatchOptions) error {
	if o.Apply == nil {
		return errors.New("watch the table: nothing to apply it to")
	}
	if o.At == nil {
		o.At = func() directory.Version { return 0 }
	}
	w := &watch{WatchOptions: o, feed: feed, at: o.At(), whole: o.At() == 0}
	if w.Wait <= 0 {
		w.Wait = beat
	}
	if w.Poll == nil {
		w.Poll = feed.Changes
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
		if _, broken := errors.AsType[*directory.Breach](err); broken || unanswered(err) || errors.Is(err, context.DeadlineExceeded) {
			most = silentPause
		}
		d := backoff(failures, firstPause, most)
		if errors.Is(err, problem.Conflict) {
			d = backoff(failures, beat, refusedPause) // what is refused may be large
		}
		if w.Failed != nil {
			w.Failed(err, d)
		}
		run.Pause(ctx, d) // the loop looks at ctx
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
	silent   bool
	breaches int       // one after the other, without a change that continued the table
	noWhole  time.Time // no snapshot because of a breach before this
	later    time.Time // no snapshot at all before this, because one was refused
}

// runOnce brings the table one update further.
func (w *watch) runOnce(ctx context.Context) error {
	w.at = max(w.at, w.At())
	u, err := w.next(ctx)
	refused := false
	if err == nil && (w.whole || u.Version > w.at || u.Part != nil) {
		if err = w.Apply(ctx, u); err == nil || errors.Is(err, directory.ErrPart) {
			w.at, w.whole = u.Version, false
			if u.Since != 0 {
				w.breaches = 0
			}
		} else {
			refused = true
		}
		if err != nil {
			err = fmt.Errorf("apply table version %d: %w", u.Version, err)
		}
	}
	if err == nil && w.Alive != nil {
		err = w.Alive(u)
	}
	w.silent = err != nil
	w.ask(err, refused)
	return err
}

// ask decides whether a snapshot has to be next.
func (w *watch) ask(err error, refused bool) {
	_, broken := errors.AsType[*directory.Breach](err)
	may := (w.breaches == 0 || time.Now().After(w.noWhole)) && !time.Now().Before(w.later)
	switch {
	case refused && errors.Is(err, problem.Conflict) && w.at > 0:
		if w.whole {
			w.later = time.Now().Add(refusedWhole)
		}
		w.whole = false
	case broken && w.at > 0:
		w.breaches++
		w.whole = w.breaches > 1 && may
	case refused || broken || errors.Is(err, problem.Gone):
		w.whole = may
	}
}

// next asks for the next update and checks that it continues the table.
func (w *watch) next(ctx context.Context) (directory.Update, error) {
	if w.whole {
		if w.breaches > 0 {
			w.noWhole = time.Now().Add(backoff(w.breaches, beat, wholePause))
		}
		u, err := w.feed.Snapshot(ctx)
		switch {
		case err != nil:
		case u.Since != 0:
			err = &directory.Breach{Reason: directory.Gap, Detail: fmt.Sprintf("asked for a whole table, got changes since %d", u.Since)}
		case u.Version < w.at:
			err = &directory.Breach{Reason: directory.Older, Detail: fmt.Sprintf("the directory is at version %d, behind this table's %d", u.Version, w.at)}
		}
		return u, err
	}
	u, err := w.poll(ctx)
	switch {
	case err != nil:
	case u.Version < w.at:
		err = &directory.Breach{Reason: directory.Older, Detail: fmt.Sprintf("asked for changes since %d, got %d to %d", w.at, u.Since, u.Version)}
	case u.Since != w.at:
		err = &directory.Breach{Reason: directory.Gap, Detail: fmt.Sprintf("asked for changes since %d, got %d to %d", w.at, u.Since, u.Version)}
	}
	return u, err
}

// poll asks for changes: in good times it waits for them, for a beat.
func (w *watch) poll(ctx context.Context) (directory.Update, error) {
	if w.silent {
		return w.Poll(ctx, w.Router, w.at, 0)
	}
	ctx, cancel := context.WithTimeout(ctx, w.Wait+latePoll)
	defer cancel()
	return w.Poll(ctx, w.Router, w.at, w.Wait)
}
