package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// watchEvery is how often the moves of a plan are asked for, all in one question.
const watchEvery = 500 * time.Millisecond

// A tally is how many moves of a plan are how far.
type tally struct{ moved, failed, held, kept, left int }

// follow says how the moves get on until each has settled.
func (j *job) follow(ctx context.Context) error {
	began, said, silence := j.now(), j.now(), outage{}
	var last tally
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		err := j.look(ctx)
		switch {
		case err == nil:
			silence = outage{}
		case silence.bear(ctx, j.app, err) != nil:
			return j.leave(err)
		}
		now := j.tally()
		if now != last || j.now().Sub(said) >= noteEvery {
			last, said = now, j.now()
			j.note("%s", now.say(said.Sub(began)))
		}
		if err == nil && now.left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return j.leave(ctx.Err())
		case <-tick.C:
		}
	}
}

// leave says what goes on without this program.
func (j *job) leave(err error) error {
	j.note("the moves go on by themselves: cellctl move list shows them")
	j.note("the same command follows them and ends what they leave open: %s --yes", j.again)
	return err
}

// look reads how far the moves are. Those that have ended are no longer among the
// open ones and are read one by one, once.
func (j *job) look(ctx context.Context) error {
	open := map[directory.MoveID]directory.Move{}
	err := eachMove(ctx, j.api, 0, false, func(m directory.Move) bool {
		open[m.ID] = m
		return true
	})
	if err != nil {
		return err
	}
	for _, steps := range [][]step{j.made.Moves, j.made.UnderWay} {
		for i := range steps {
			if err := j.update(ctx, &steps[i], open); err != nil {
				return err
			}
		}
	}
	return nil
}

// update brings a step up to date, and lets it go on with the move that tries its
// own again.
func (j *job) update(ctx context.Context, s *step, open map[directory.MoveID]directory.Move) error {
	if s.settled {
		return nil
	}
	m, ok := open[s.Move]
	for !ok {
		var err error
		if m, err = j.Move(ctx, s.Move); err != nil {
			return err
		}
		if ok = m.RetriedBy == ""; !ok {
			s.Move = m.RetriedBy
		}
	}
	closes := m.Phase == directory.Watching && m.UndoneBy == "" && j.opts.complete && m.Wish != directory.Complete
	// What stops here has copies that differ or could not be compared: no plan purges one.
	// The others' watches end: they are compared once more, and completed or stop here, too.
	if s.kept = closes && m.StopAt == directory.Watching; closes && !s.kept && !s.closed {
		switch _, err := j.AskMove(ctx, m.ID, directory.Close); {
		case err == nil:
			s.closed = true
		case problem.KindOf(err) == problem.Conflict:
			j.requestID.Store(nil) // it has changed meanwhile: the next look tells how
		default:
			return err
		}
	}
	s.Phase, s.Pause, s.Error, s.settled = m.Phase, reported(m).Pause, m.Error, settled(m) && (!closes || s.kept)
	if s.kept {
		s.Error = whyKept(m)
	}
	return nil
}

// whyKept says why a move that watches waits for its operator.
func whyKept(m directory.Move) string {
	switch c := reported(m).Comparison; {
	case len(c.Differ) > 0:
		return "the copies differ in " + strings.Join(c.Differ, ", ")
	case c.Failed != "":
		return "the copies could not be compared: " + c.Failed
	}
	return "it was made to wait here for its operator"
}

// kept says, as a Conflict, which ways back were left open that were to be closed.
func (j *job) kept() error {
	n := 0
	for _, steps := range [][]step{j.made.Moves, j.made.UnderWay} {
		for _, s := range steps {
			if s.kept {
				n++
				j.note("move %s of %s is left alone: %s", s.Move, s.Slug, oneLine(s.Error))
			}
		}
	}
	if n == 0 {
		return nil
	}
	return hinted{
		problem.New(problem.Conflict, "%s not completed, so that nothing is purged", count(n, "move")),
		"find out which side is damaged, then cellctl move undo MOVE, or cellctl move complete MOVE",
	}
}

func (j *job) tally() (t tally) {
	for _, steps := range [][]step{j.made.Moves, j.made.UnderWay} {
		for _, s := range steps {
			switch {
			case !s.settled:
				t.left++
			case s.kept:
				t.kept++
			case s.Phase == directory.Aborted:
				t.failed++
			case s.Phase == directory.CaughtUp:
				t.held++
			default:
				t.moved++
			}
		}
	}
	return t
}

// say is one line of progress after so long.
func (t tally) say(spent time.Duration) string {
	all := t.moved + t.failed + t.held + t.kept + t.left
	text := fmt.Sprintf("%d of %d moves done, %d aborted", t.moved, all, t.failed)
	if t.kept > 0 {
		text += fmt.Sprintf(", %d left for you to look at", t.kept)
	}
	if done := t.moved + t.failed; done > 0 && t.left > 0 {
		text += fmt.Sprintf(", about %s left", (spent / time.Duration(done) * time.Duration(t.left)).Round(time.Second))
	}
	return text
}
