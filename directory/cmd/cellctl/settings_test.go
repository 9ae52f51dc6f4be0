package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

func TestExitCodesByKindOfError(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("find tenant: %w", problem.New(problem.TenantNotFound, "no such tenant"))
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{problem.New(problem.Internal, "broken"), 1},
		{usage("", "wrong"), 2},
		{wrapped, 3},
		{hinted{wrapped, "look again"}, 3},
		{problem.New(problem.Conflict, "taken"), 4},
		{problem.New(problem.PreconditionFailed, "changed"), 4},
		{problem.New(problem.RateLimited, "slower"), 5},
		{problem.New(problem.Unauthenticated, "who?"), 5},
		{problem.New(problem.Timeout, "late"), 6},
		// What ran out of time on this side is a timeout, whatever it is wrapped in.
		{problem.Wrap(problem.Unavailable, context.DeadlineExceeded, "no answer"), 6},
		{problem.New(problem.Unavailable, "away"), 7},
	} {
		if got := exitCode(t.Context(), tt.err); got != tt.want {
			t.Errorf("exit code of %v: got %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestARateHasNothingToDoWithTheToken: who asks too often is told when to ask again.
func TestARateHasNothingToDoWithTheToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		wait time.Duration
		want string
	}{
		{12 * time.Second, "hint: try again in 12s\n"},
		{0, "hint: try again later\n"},
	} {
		a, said, _ := quiet()
		a.report(problem.New(problem.RateLimited, "slower").After(tt.wait), exitRefused)
		if got := said.String(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("after %v: got %q, want it to end with %q", tt.wait, got, tt.want)
		}
	}
}

func TestInterruptedIs130(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := exitCode(ctx, ctx.Err()); got != 130 {
		t.Errorf("exit code: got %d, want 130", got)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		ago  time.Duration
		want string
	}{
		{-time.Second, "0s"}, // clocks of two machines are never quite the same
		{0, "0s"},
		{119 * time.Second, "119s"},
		{2 * time.Minute, "2m"},
		{119 * time.Minute, "119m"},
		{47 * time.Hour, "47h"},
		{49 * time.Hour, "2d"},
		{800 * 24 * time.Hour, "800d"},
	} {
		if got := age(now, now.Add(-tt.ago)); got != tt.want {
			t.Errorf("age of %v: got %q, want %q", tt.ago, got, tt.want)
		}
	}
	if got := age(now, time.Time{}); got != "" {
		t.Errorf("age of what never was: got %q, want nothing", got)
	}
}

func TestJoinKeepsTheOrderOfMembers(t *testing.T) {
	t.Parallel()
	type pair struct {
		B int `json:"b"`
		A int `json:"a"`
	}
	got, err := join([]any{pair{1, 2}, nil, struct{}{}, map[string][]int{"items": {}}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"b":1,"a":2,"items":[]}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
