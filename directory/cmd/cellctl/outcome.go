package main

import (
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// verdict says, as a Conflict, how a move that has settled is not what was wished for. Whoever
// wishes nothing but that it goes on wants the tenant to change its cell.
func verdict(w directory.Wish) func(directory.Move) error {
	switch w {
	case directory.Cancel:
		return cancelled
	case directory.Complete, directory.CompleteSame:
		return completed
	}
	return arrived
}

func arrived(m directory.Move) error {
	switch m.Phase {
	case directory.Aborted:
		return hinted{problem.New(problem.Conflict, "move %s was aborted: %s", m.ID, oneLine(m.Error)), abortedHint(m)}
	case directory.Undone:
		return problem.New(problem.Conflict, "move %s was undone by move %s", m.ID, m.UndoneBy)
	}
	return nil
}

// watched is for who only looks: what somebody has taken back has not failed.
func watched(m directory.Move) error {
	if m.Phase == directory.Undone || m.Phase == directory.Aborted && m.Wish == directory.Cancel {
		return nil
	}
	return arrived(m)
}

func cancelled(m directory.Move) error {
	if m.Phase != directory.Aborted {
		return problem.New(problem.Conflict, "move %s is %s: it was not cancelled", m.ID, m.Phase)
	}
	return nil
}

func completed(m directory.Move) error {
	switch {
	case m.Phase == directory.Completed:
		return nil
	case m.Phase == directory.Watching && m.StopAt == directory.Watching:
		return hinted{
			problem.New(problem.Conflict, "move %s is not completed: %s", m.ID, whyKept(m)),
			keptHint(m.ID),
		}
	}
	return problem.New(problem.Conflict, "move %s is %s: it was not completed", m.ID, m.Phase)
}
