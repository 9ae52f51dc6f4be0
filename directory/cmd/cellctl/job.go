package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A job is one run of a command that moves many tenants.
type job struct {
	*app
	api
	remap
	opts  *remapFlags
	again string // the command that repeats it

	fleet fleet
	made  plan
}

// run plans, and with --yes carries the plan out.
func (j *job) run(ctx context.Context) error {
	if err := j.replan(ctx); err != nil {
		return err
	}
	if j.opts.dryRun {
		return j.dry(ctx)
	}
	if !j.opts.yes {
		return j.showPlan(j.made, j.nextSteps()...)
	}
	if err := j.opts.confirmed(j.made); err != nil {
		return errors.Join(j.showPlan(j.made), err)
	}
	if j.app.flags.output == "table" || j.app.flags.output == "wide" {
		j.made.tables(j.app)
		fmt.Fprintln(j.out, j.made.summary())
	}
	return j.carryOut(ctx)
}

// replan reads the fleet and plans anew.
func (j *job) replan(ctx context.Context) (err error) {
	if j.fleet, err = readFleet(ctx, j.api, j.now()); err != nil {
		return err
	}
	state := j.fleet.state(j.opts.budget, j.now())
	if j.byLoad {
		state = j.fleet.weigh(state)
	}
	p, err := j.plan(state, j.fleet.expects(j.opts.options(j.now())))
	if err != nil {
		return err
	}
	j.made = newPlan(j.verb, j.subject, j.fleet, p, j.belongs)
	return nil
}

// belongs reports whether a move that has not ended is this plan's to follow.
func (j *job) belongs(m directory.Move) bool {
	return j.adopts(m) && (m.UnderWay() || j.opts.complete && m.UndoneBy == "")
}

// nextSteps are what may follow a plan that is only shown: nothing, where it would move nobody and empty nothing.
func (j *job) nextSteps() []string {
	switch {
	case j.made.Confirm > 0:
		return []string{fmt.Sprintf("%s --yes --confirm %d", j.again, j.made.Confirm)}
	case len(j.made.Moves) > 0 || len(j.made.UnderWay) > 0 || len(j.made.Refusals) == 0 && j.leaves != nil && len(j.leaving()) > 0:
		return []string{j.again + " --yes"}
	}
	return []string{}
}

// refused is the error with which the plan ends, once carried out, because of those who stay: what cells refuse
// is aborted there.
func (j *job) refused() error {
	var why []refusal
	for _, r := range j.made.Refusals {
		if j.strict || r.Reason == "cells" {
			why = append(why, r)
		}
	}
	if len(why) == 0 {
		return nil
	}
	return hinted{problem.New(problem.Conflict, "%s: %s, the first because %s", j.subject,
		count(len(why), "tenant")+" could not be moved", oneLine(why[0].Why)), why[0].instead(j.verb)}
}

// each asks for each move of the plan. What the directory refuses becomes a
// refusal of the plan; another error ends it, and what is asked for stays.
func (j *job) each(ctx context.Context, dry bool, made func(*step, directory.Move)) error {
	var kept []step
	var broken error
	for i, s := range j.made.Moves {
		m, err := j.create(ctx, j.api, directory.NewMove{Tenant: s.Tenant, Target: s.To, Watch: j.watch(), DryRun: dry, Planned: true})
		switch kind := problem.KindOf(err); {
		case err == nil:
			made(&s, m)
			kept = append(kept, s)
		case kind == problem.Conflict || kind == problem.NotFound:
			j.requestID.Store(nil) // the plan tells of it, and no error
			j.made.Refusals = append(j.made.Refusals, refusal{s.Tenant, s.Slug, "directory", err.Error()})
		default:
			if broken = err; !dry {
				broken = hinted{err, fmt.Sprintf("%d of %d moves were asked for", len(kept), len(j.made.Moves))}
			}
			kept = append(kept, j.made.Moves[i:]...)
		}
		if broken != nil {
			break
		}
	}
	j.made.Moves = append([]step{}, kept...)
	return broken
}

func (j *job) watch() time.Duration {
	if j.opts.complete {
		return shortest
	}
	return cmp.Or(j.opts.watch, shortest)
}

// carryOut does what the plan says.
func (j *job) carryOut(ctx context.Context) error {
	if j.leaves != nil {
		if err := j.empty(ctx); err != nil {
			return err
		}
	}
	j.made.CarryOut = true
	if n := len(j.made.Moves); n >= 100 {
		j.note("asking for %d moves", n)
	}
	err := j.each(ctx, false, func(s *step, m directory.Move) { s.Move, s.Phase = m.ID, m.Phase })
	if err != nil {
		return j.leave(err)
	}
	if j.opts.detach {
		if err := j.look(ctx); err != nil {
			return err
		}
		if len(j.made.Moves)+len(j.made.UnderWay) > 0 {
			j.note("the moves go on by themselves; the same command follows them and ends what they leave open")
		}
		return errors.Join(j.showOutcome(j.again+" --yes"), j.kept(), j.refused())
	}
	if err := j.follow(ctx); err != nil {
		return err
	}
	return j.end(ctx)
}

// leaving are the cells that are to be drained and are not yet.
func (j *job) leaving() []directory.Cell {
	var cells []directory.Cell
	for _, c := range j.fleet.cells {
		if j.leaves(c) && c.State != directory.Drained {
			cells = append(cells, c)
		}
	}
	return cells
}

// empty lets no tenant come to the cells that are left any more, then plans again:
// now nobody can come between the plan and its moves. Where somebody came before that,
// and the plan is not the one that was confirmed, the cells stay as they are now.
func (j *job) empty(ctx context.Context) error {
	for _, c := range j.leaving() {
		if _, err := j.SetCellState(ctx, c.ID, directory.Draining); err != nil {
			return err
		}
	}
	if err := j.replan(ctx); err != nil {
		return err
	}
	err := j.opts.confirmed(j.made)
	if err != nil {
		for _, c := range j.leaving() {
			j.note("cell %s is draining, and gets no new tenants: %s", c.ID, j.there("cellctl cell uncordon " + string(c.ID))[0])
		}
	}
	return err
}

// end closes the books: cells that are empty are drained, and what is not as it
// was planned is said.
func (j *job) end(ctx context.Context) error {
	next, stayed, err := j.settleCells(ctx)
	if err != nil {
		return err
	}
	if err := j.showOutcome(next...); err != nil {
		return err
	}
	kept := j.kept()
	switch t := j.tally(); {
	case t.failed > 0:
		e := problem.New(problem.Conflict, "%d of %d moves were aborted", t.failed, t.failed+t.moved+t.held+t.kept)
		return hinted{e, "the same command tries them again: " + j.again + " --yes"}
	case kept != nil:
		return kept
	case t.held > 0:
		return problem.New(problem.Conflict, "%s wait, caught up, for cellctl move switch", count(t.held, "move"))
	case j.refused() != nil:
		return j.refused()
	case stayed != nil:
		return stayed
	}
	return nil
}

// settleCells sets the cells that have been left to drained. stayed says why one
// could not be: it still owns somebody.
func (j *job) settleCells(ctx context.Context) (next []string, stayed, err error) {
	if j.leaves == nil {
		return nil, nil, nil
	}
	for _, c := range j.leaving() {
		now, err := j.SetCellState(ctx, c.ID, directory.Drained)
		switch {
		case err == nil:
			j.note("cell %s is %s", now.ID, now.State)
			next = append(next, "cellctl cell remove "+string(now.ID))
		case problem.KindOf(err) == problem.Conflict:
			j.requestID.Store(nil)
			stayed = problem.New(problem.Conflict, "cell %s stays draining: %v", c.ID, err)
			j.note("%v", stayed)
			next = append(next, j.again)
		default:
			return nil, nil, err
		}
	}
	if j.fleet.cells, err = j.ListCells(ctx); err != nil {
		return nil, nil, err
	}
	for i, p := range j.made.Cells {
		for _, c := range j.fleet.cells {
			if c.ID == p.Cell {
				j.made.Cells[i].State, j.made.Cells[i].After = c.State, c.Tenants
			}
		}
	}
	return next, stayed, nil
}

// showOutcome prints what has become of the plan.
func (j *job) showOutcome(next ...string) error {
	if j.app.flags.output != "table" && j.app.flags.output != "wide" {
		return j.showPlan(j.made, next...)
	}
	steps := append(append([]step{}, j.made.Moves...), j.made.UnderWay...)
	if len(steps) > 0 {
		fmt.Fprintln(j.out)
		askedView.rows(j.app, steps)
	}
	for _, step := range next {
		j.note("next: %s", step)
	}
	return nil
}
