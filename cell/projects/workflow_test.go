package projects

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/infra/problem"
)

func TestTransitions(t *testing.T) {
	t.Parallel()
	states := []TaskState{Todo, Doing, Review, Done}
	legal := map[[2]TaskState]bool{
		{Todo, Doing}: true, {Doing, Review}: true, {Review, Done}: true,
		{Doing, Todo}: true, {Review, Doing}: true, {Done, Todo}: true,
	}
	for _, from := range states {
		for _, to := range states {
			if got, want := from.CanBecome(to), legal[[2]TaskState{from, to}]; got != want {
				t.Errorf("%s to %s: got %v, want %v", from, to, got, want)
			}
			if got, want := errors.Is(checkTransition(from, to), problem.Conflict), !from.CanBecome(to); got != want {
				t.Errorf("%s to %s is a conflict: got %v, want %v", from, to, got, want)
			}
		}
	}
}
