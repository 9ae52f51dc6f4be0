package main

import (
	"context"
	"errors"
	"slices"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/planner"
)

// atOnce is how many moves of a plan are rehearsed side by side.
const atOnce = 50

// dry shows the plan after the directory and the cells were asked about it. It ends as what carries the plan
// out would; where somebody cannot be asked, the plan is shown with what is known, and the error tells.
func (j *job) dry(ctx context.Context) error {
	all := len(j.made.Moves)
	err := j.rehearse(ctx)
	if ctx.Err() != nil {
		return err
	}
	var next []string
	if err == nil {
		err = j.refused()
		if all == 0 || len(j.made.Moves) > 0 {
			next = j.nextSteps()
		}
	}
	return errors.Join(j.showPlan(j.made, next...), err)
}

// rehearse asks the directory and, through movers, the cells about each move, and takes
// those that they would refuse out of the plan. What is left has the size that cells measured. With an error,
// what nobody was asked about is left as it was planned.
func (j *job) rehearse(ctx context.Context) error {
	all, kept, said := j.made.Moves, []step{}, j.now()
	done, asked := 0, 0
	for some := range slices.Chunk(all, atOnce) {
		j.made.Moves = some
		err := j.each(ctx, true, func(s *step, m directory.Move) { s.tried = m.Rehearsal })
		for i, s := range j.made.Moves {
			if err == nil {
				s, err = j.try(ctx, s)
			}
			if err != nil {
				kept = append(kept, j.made.Moves[i:]...)
				break
			}
			asked++
			if s.Tenant != 0 {
				kept = append(kept, s)
			}
			if now := j.now(); now.Sub(said) >= noteEvery {
				said = now
				j.note("asked about %d of %s", asked, count(len(all), "move"))
			}
		}
		done += len(some)
		if err != nil {
			j.made.Moves = append(kept, all[done:]...)
			j.made.Forecast.measure(j.made.Moves)
			j.note("asked about %d of %s: the others are shown as they are planned", asked, count(len(all), "move"))
			return err
		}
	}
	j.made.Moves = kept
	j.made.Forecast.measure(kept)
	if len(kept) > 0 && kept[0].tried == "" {
		j.note("%s", noRehearsals)
	}
	return nil
}

// try is the step as a rehearsal found it, or none where it would be refused.
func (j *job) try(ctx context.Context, s step) (step, error) {
	if s.tried == "" { // of a directory that does not know of rehearsals
		return s, nil
	}
	r, err := j.rehearsed(ctx, j.api, s.tried)
	if err != nil {
		return s, err
	}
	if err := r.verdict(); err != nil {
		j.made.Refusals = append(j.made.Refusals, refusal{s.Tenant, s.Slug, "cells", err.Error()})
		return step{}, nil
	}
	return s.sized(r, j.fleet.expects(planner.Default())), nil
}
