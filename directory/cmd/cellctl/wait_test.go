package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestAQuestionThatHangsIsNotTheWholeWait: the directory is asked again, and in the end the
// wait says what it knows: that nobody answers, or what was answered a moment ago.
func TestAQuestionThatHangsIsNotTheWholeWait(t *testing.T) {
	t.Parallel()
	hangs := func(ctx context.Context) (goal, error) {
		<-ctx.Done()
		return goal{}, problem.Wrap(problem.Timeout, ctx.Err(), "no answer")
	}
	has := func(met bool) func(context.Context) (goal, error) {
		return func(context.Context) (goal, error) {
			return goal{met: met, is: "copied", show: func() error { return nil }}, nil
		}
	}
	missing := func(context.Context) (goal, error) {
		return goal{}, problem.New(problem.NotFound, "no such thing")
	}
	for name, tt := range map[string]struct {
		timeout time.Duration
		looks   []func(context.Context) (goal, error) // the last one goes on
		want    problem.Kind
	}{
		"then another process answers": {time.Hour, []func(context.Context) (goal, error){hangs, has(true)}, ""},
		"always":                       {time.Minute, []func(context.Context) (goal, error){hangs}, problem.Unavailable},
		"at once, in a short wait":     {time.Second, []func(context.Context) (goal, error){hangs}, problem.Unavailable},
		"after an answer":              {time.Hour, []func(context.Context) (goal, error){has(false), hangs}, problem.Unavailable},
		"after there was nothing":      {time.Hour, []func(context.Context) (goal, error){missing, hangs}, problem.Unavailable},
		"only at the end":              {time.Second, []func(context.Context) (goal, error){has(false), hangs}, problem.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a, _, _ := quiet()
				a.flags.timeout = tt.timeout
				begun := time.Now()
				err := a.await(t.Context(), "move/mv_1", "watching", func(ctx context.Context) (goal, error) {
					look := tt.looks[0]
					tt.looks = tt.looks[min(1, len(tt.looks)-1):]
					return look(ctx)
				})
				if (err == nil) != (tt.want == "") || err != nil && problem.KindOf(err) != tt.want {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if took := time.Since(begun); err == nil && took > time.Minute { // of the bubble's clock
					t.Errorf("asked again after %s", took)
				}
			})
		})
	}
}

// TestAWaitGoesOnWithTheMoveThatTriesAgain, as who follows a move does, and a phase between
// two looks is not waited for until the end.
func TestAWaitGoesOnWithTheMoveThatTriesAgain(t *testing.T) {
	t.Parallel()
	a, _, _ := quiet()
	aborted := directory.Move{ID: "mv_1", Phase: directory.Aborted, RetriedBy: "mv_2"}
	as := func(p directory.Phase) directory.Move { return directory.Move{ID: "mv_2", Phase: p} }
	for _, tt := range []struct {
		moves []directory.Move
		want  string
		met   bool
		kind  problem.Kind
	}{
		{[]directory.Move{aborted, as(directory.Armed)}, "watching", false, ""},
		{[]directory.Move{aborted, as(directory.Armed)}, "ended", false, ""},
		{[]directory.Move{aborted, as(directory.Watching)}, "watching", true, ""},
		{[]directory.Move{aborted}, "aborted", true, ""},
		{[]directory.Move{as(directory.Aborted)}, "watching", false, problem.Conflict},
		{[]directory.Move{as(directory.Copied)}, "caught_up", false, ""},
		{[]directory.Move{as(directory.Frozen)}, "caught_up", true, ""},
		{[]directory.Move{as(directory.Completed)}, "watching", true, ""},
		{[]directory.Move{as(directory.Aborting)}, "armed", false, ""},
		{[]directory.Move{as(directory.Undone)}, "watching", false, problem.Conflict},
		{[]directory.Move{as(directory.Watching)}, "undone", false, ""},
		{[]directory.Move{as(directory.Completed)}, "undone", false, problem.Conflict},
		{[]directory.Move{as(directory.Staged)}, "aborted", false, ""},
		{[]directory.Move{as(directory.Aborting)}, "aborted", false, ""},
		{[]directory.Move{as(directory.Decided)}, "aborted", false, problem.Conflict},
		{[]directory.Move{as(directory.Watching)}, "aborted", false, problem.Conflict},
	} {
		g, err := moveGoal(t.Context(), a, &told{moves: tt.moves}, "mv_1", tt.want)
		if g.met != tt.met || (err == nil) != (tt.kind == "") || err != nil && problem.KindOf(err) != tt.kind {
			t.Errorf("%s of %v: got %v and %v, want %v and %q", tt.want, tt.moves, g.met, err, tt.met, tt.kind)
		}
	}
}
