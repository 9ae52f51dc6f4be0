package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// nextSteps are the commands that a move allows at now.
func nextSteps(m directory.Move, now time.Time) []string {
	id := string(m.ID)
	switch {
	case m.Phase == directory.Watching && m.UndoneBy != "":
		return []string{"cellctl move watch " + string(m.UndoneBy)}
	case m.Phase == directory.Watching && m.Wish != directory.Complete && m.WatchOver(now):
		return []string{"cellctl move watch " + id, "cellctl move complete " + id}
	case m.Phase == directory.Watching && m.Wish != directory.Complete:
		return []string{"cellctl move undo " + id, "cellctl move verify " + id, "cellctl move complete " + id}
	case m.Phase == directory.CaughtUp && m.StopAt == directory.CaughtUp && m.Wish == directory.Proceed:
		return []string{"cellctl move switch " + id, "cellctl move cancel " + id}
	case m.RetriedBy != "":
		return []string{"cellctl move watch " + string(m.RetriedBy)}
	case m.Phase.BeforeDecision() && m.Wish != directory.Cancel:
		return []string{"cellctl move watch " + id, "cellctl move cancel " + id}
	case !m.Phase.Ended():
		return []string{"cellctl move watch " + id}
	}
	return nil
}

// settled reports whether a move needs nobody's work until an operator says more.
func settled(m directory.Move) bool {
	switch m.Phase {
	case directory.Watching:
		return m.Wish != directory.Complete
	case directory.CaughtUp:
		return m.StopAt == directory.CaughtUp && m.Wish == directory.Proceed
	}
	return m.Phase.Ended() && m.RetriedBy == ""
}

const (
	followEvery = 200 * time.Millisecond // how often a move that is followed is asked for
	noteEvery   = 5 * time.Second        // how often something is said where nothing has changed
	newsLasts   = 3 * noteEvery          // how long what is told of a round that is under way says how fast it is
)

// follow notes each phase until the move, or the one that tries it again, has
// settled, then shows it. What ends it early ends the following, not the move. One after
// which the tenant has not changed its cell is a Conflict.
func (a *app) follow(ctx context.Context, d api, m directory.Move) error {
	return a.followTo(ctx, d, m, arrived)
}

// followTo is follow of who wants something else: verdict is asked about the move that has settled.
func (a *app) followTo(ctx context.Context, d api, m directory.Move, verdict func(directory.Move) error) error {
	f := follower{app: a, api: d, move: m, said: a.now()}
	f.say()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for !settled(f.move) {
		select {
		case <-ctx.Done():
			a.note("the move goes on: cellctl move watch %s", f.move.ID)
			return ctx.Err()
		case <-tick.C:
		}
		if err := f.look(ctx); err != nil {
			if ctx.Err() != nil { // while the directory was asked
				a.note("the move goes on: cellctl move watch %s", f.move.ID)
			}
			return err
		}
	}
	m = f.move
	if err := a.showMove(ctx, d, m); err != nil {
		return err
	}
	return verdict(m)
}

// A follower tells how a move gets on.
type follower struct {
	*app
	api
	outage
	move  directory.Move
	speed float64   // bytes a second of the copy, or of the round that is under way; 0 is not known
	news  time.Time // when something was told last of the round that is under way
	lag   int64     // keys that the last round brought
	said  time.Time
}

// look reads the record, goes on to the move that tries this one again, and notes
// what is new.
func (f *follower) look(ctx context.Context) error {
	id := f.move.ID
	if f.move.RetriedBy != "" {
		id = f.move.RetriedBy
	}
	now, err := f.Move(ctx, id)
	if err != nil {
		return withHint(f.bear(ctx, f.app, err), problem.Unavailable, "the move goes on: cellctl move watch %s", id)
	}
	f.outage = outage{}
	was := f.move
	f.move = now
	f.measure(was, now)
	if now.ID != was.ID || now.Phase != was.Phase || now.Error != was.Error || wished(now) != wished(was) ||
		reported(now).Rounds != reported(was).Rounds || f.now().Sub(f.said) >= noteEvery {
		f.say()
	}
	return nil
}

// measure takes from two readings of a move what one does not tell.
func (f *follower) measure(was, now directory.Move) {
	p, q := reported(was), reported(now)
	before, come := p.Coming, q.Coming
	same := come.Began.Equal(before.Began)
	if !same || come.For != before.For {
		f.news = f.now()
	}
	if !same { // a round has begun, with nothing, or ended
		before, f.speed = coming{}, 0
	}
	switch {
	case now.ID != was.ID:
		f.speed, f.lag = 0, 0
	case was.Phase == directory.Armed && now.Phase == directory.Copied:
		f.speed = float64(q.Bytes) / now.Changed.Sub(was.Changed).Seconds()
	case come.For > before.For:
		f.speed = float64(come.Bytes-before.Bytes) / (come.For - before.For).Seconds()
	}
	if now.ID == was.ID && q.Rounds > p.Rounds {
		f.lag = (q.Keys - p.Keys) / int64(q.Rounds-p.Rounds)
	}
}

// pace is the speed, but for that of a round of which nothing was told for a while: it may stand.
func (f *follower) pace() float64 {
	if !reported(f.move).Coming.Began.IsZero() && f.now().Sub(f.news) > newsLasts {
		return 0
	}
	return f.speed
}

// say notes how far the move is.
func (f *follower) say() {
	f.said = f.now()
	m, p := f.move, reported(f.move)
	parts := []string{fmt.Sprintf("%-9s", m.Phase), fmt.Sprintf("%d rows, %s", p.rows(), size(p.bytes())+f.outOf(p))}
	if pace := f.pace(); pace > 0 {
		parts = append(parts, size(int64(pace))+"/s")
	}
	if p.Rounds > 0 {
		parts = append(parts, fmt.Sprintf("round %d took %s, %d keys behind", p.Rounds, p.LastRound.Round(time.Millisecond), f.lag))
	}
	switch wait := f.remaining(); {
	case wait > 0:
		parts = append(parts, fmt.Sprintf("about %s to copy the rest", wait.Round(time.Second)))
	case m.NotBefore.After(f.said) && m.Phase == directory.Planned:
		parts = append(parts, fmt.Sprintf("attempt %d of %d begins in %s", m.Attempt, m.Attempts, m.NotBefore.Sub(f.said).Round(time.Second)))
	case p.Pause > 0:
		parts = append(parts, "pause "+pause(p.Pause))
	}
	if wish := wished(m); wish != "" {
		parts = append(parts, wish+" asked for")
	}
	if m.Error != "" {
		parts = append(parts, oneLine(m.Error))
	}
	f.note("%s", strings.Join(parts, "  "))
}

// outOf says how much is to be copied. Bytes that are stored and bytes that are sent are not quite
// the same, and an undo copies what has changed, which nobody has measured, unless it copies the whole.
func (f *follower) outOf(p progress) string {
	switch {
	case f.move.Phase != directory.Armed || f.move.Undoes != "" && !p.Whole || p.Size <= p.bytes():
		return ""
	case p.AtLeast:
		return " of at least " + size(p.Size)
	}
	return " of " + size(p.Size)
}

// remaining is how long the copy may still take at its pace; 0 where that, or how much there is, is not known.
func (f *follower) remaining() time.Duration {
	p, pace := reported(f.move), f.pace()
	if f.outOf(p) == "" || p.AtLeast || pace <= 0 {
		return 0
	}
	return time.Duration(float64(p.Size-p.bytes()) / pace * float64(time.Second))
}

// An outage is how long a directory that is only looked at has not answered. It
// may be as long as a single answer may take: what is followed goes on without it.
type outage struct{ since time.Time }

// bear is nil while err, of a directory that does not answer, can be borne.
func (o *outage) bear(ctx context.Context, a *app, err error) error {
	kind := problem.KindOf(err)
	if ctx.Err() != nil || kind != problem.Unavailable && kind != problem.Timeout {
		return err
	}
	if o.since.IsZero() {
		o.since = a.now()
		a.note("the directory does not answer; looking again for %s", a.flags.timeout)
	}
	if a.now().Sub(o.since) > a.flags.timeout {
		return err
	}
	return nil
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1e3)
}
