package projects

import (
	"slices"
	"strings"

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

// allowed names the states that follow, for people and programs: "done, doing".
func allowed(from TaskState) string {
	var names []string
	for _, s := range next[from] {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// checkTransition is the Conflict that names what is allowed instead.
func checkTransition(from, to TaskState) error {
	if from.CanBecome(to) {
		return nil
	}
	return problem.New(problem.Conflict, "a task in state %s cannot become %s", from, to).
		With("state", string(from)).With("allowed", allowed(from))
}
