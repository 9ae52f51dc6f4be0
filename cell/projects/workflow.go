package projects

import (
	"fmt"
	"slices"

	"github.com/cellway/cellway/infra/problem"
)

// next holds every legal transition of a task. Done is not final: work comes back.
var next = map[TaskState][]TaskState{
	Todo:   {Doing},
	Doing:  {Review, Todo},
	Review: {Done, Doing},
	Done:   {Todo},
}

// CanBecome reports whether a task in state s may go to state to.
func (s TaskState) CanBecome(to TaskState) bool { return slices.Contains(next[s], to) }

// checkTransition is the Conflict that names what is allowed instead.
func checkTransition(from, to TaskState) error {
	if from.CanBecome(to) {
		return nil
	}
	return problem.New(problem.Conflict, "a task in state %s cannot become %s", from, to).
		With("state", string(from)).With("allowed", fmt.Sprint(next[from]))
}
