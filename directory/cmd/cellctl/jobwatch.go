package main

import (
	"context"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
)

// watchEvery is how often the moves of a plan are asked for, all in one question.
const watchEvery = 500 * time.Millisecond

// A tally is how many moves of a plan are how far.
type tally struct{ moved, failed, held, left int }

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
	if m.Phase == directory.Watching && m.UndoneBy == "" && j.opts.complete && m.Wish != directory.Complete {
		var err error
		if m, err = j.AskMove(ctx, m.ID, directory.Complete); err != nil {
			return err
		}
	}
	s.Phase, s.Pause, s.Error, s.settled = m.Phase, reported(m).Pause, m.Error, settled(m)
	return nil
}

func (j *job) tally() (t tally) {
	for _, steps := range [][]step{j.made.Moves, j.made.UnderWay} {
		for _, s := range steps {
			switch {
			case !s.settled:
				t.left++
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
	all := t.moved + t.failed + t.held + t.left
	text := fmt.Sprintf("%d of %d moves done, %d aborted", t.moved, all, t.failed)
	if done := t.moved + t.failed; done > 0 && t.left > 0 {
		text += fmt.Sprintf(", about %s left", (spent / time.Duration(done) * time.Duration(t.left)).Round(time.Second))
	}
	return text
}
