package reconcile

import (
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
)

// The moves of one tenant that the cases below speak of; the cell judged is c1.
func move(id directory.MoveID, from, to directory.CellID, base directory.Epoch, p directory.Phase) directory.Move {
	return directory.Move{ID: id, Source: from, Target: to, Base: base, Phase: p}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	undo := func(id, of directory.MoveID, from, to directory.CellID, base directory.Epoch, p directory.Phase) directory.Move {
		m := move(id, from, to, base, p)
		m.Undoes = of
		return m
	}
	const active, frozen, incoming, moved, suspect, absent = fence.Active, fence.Frozen, fence.Incoming, fence.Moved, fence.Suspect, fence.Absent
	for name, tt := range map[string]struct {
		has   fence.Fence
		land  bool
		cell  directory.CellID
		epoch directory.Epoch
		moves []directory.Move
		want  fence.Fence
		void  directory.MoveID
	}{
		// The tenant is placed here.
		"nothing happened": {has: fence.Fence{State: active, Epoch: 4}, cell: "c1", epoch: 4, want: fence.Fence{State: active, Epoch: 4}},
		"never used":       {has: fence.Fence{State: absent}, cell: "c1", epoch: 1, want: fence.Fence{State: active, Epoch: 1}},
		"never used, and a move of it was aborted": {
			has: fence.Fence{State: absent}, cell: "c1", epoch: 3, moves: []directory.Move{move("a", "c1", "c2", 1, directory.Aborting)},
			want: fence.Fence{State: active, Epoch: 3},
		},
		"its coming was lost whole": {
			has: fence.Fence{State: absent}, cell: "c1", epoch: 2, moves: []directory.Move{move("a", "c2", "c1", 1, directory.Completed)},
			want: fence.Fence{State: suspect, Epoch: 2},
		},
		"armed for a move that is aborted now": {
			has: fence.Fence{State: active, Epoch: 1, Capture: true, Move: "a"}, cell: "c1", epoch: 3,
			moves: []directory.Move{move("a", "c1", "c2", 1, directory.Aborting)}, want: fence.Fence{State: active, Epoch: 3},
		},
		"frozen for a move that is aborted now": {
			has: fence.Fence{State: frozen, Epoch: 2, Capture: true, Move: "a"}, cell: "c1", epoch: 3,
			moves: []directory.Move{move("a", "c1", "c2", 1, directory.Aborting)}, want: fence.Fence{State: active, Epoch: 3},
		},
		"two moves were aborted since": {
			has: fence.Fence{State: active, Epoch: 1}, cell: "c1", epoch: 5,
			moves: []directory.Move{move("b", "c1", "c2", 3, directory.Aborted), move("a", "c1", "c2", 1, directory.Aborted)},
			want:  fence.Fence{State: active, Epoch: 5},
		},
		"it was away and came back": {
			has: fence.Fence{State: active, Epoch: 1}, cell: "c1", epoch: 3,
			moves: []directory.Move{move("b", "c2", "c1", 2, directory.Completed), move("a", "c1", "c2", 1, directory.Completed)},
			want:  fence.Fence{State: suspect, Epoch: 3},
		},
		"only the other one's moves were aborted": {
			has: fence.Fence{State: active, Epoch: 1}, cell: "c1", epoch: 3, moves: []directory.Move{move("a", "c2", "c1", 1, directory.Aborted)},
			want: fence.Fence{State: suspect, Epoch: 3},
		},
		"it has come, decided and not activated": {
			has: fence.Fence{State: incoming, Epoch: 2, Move: "a"}, land: true, cell: "c1", epoch: 2,
			moves: []directory.Move{move("a", "c2", "c1", 1, directory.Decided)}, want: fence.Fence{State: active, Epoch: 2, Capture: true, Move: "a"},
		},
		"it has come, and the last round was lost": {
			has: fence.Fence{State: incoming, Epoch: 2, Move: "a"}, cell: "c1", epoch: 2,
			moves: []directory.Move{move("a", "c2", "c1", 1, directory.Watching)}, want: fence.Fence{State: suspect, Epoch: 2}, void: "a",
		},
		"it came, and the move away was aborted": {
			has: fence.Fence{State: incoming, Epoch: 2, Move: "a"}, land: true, cell: "c1", epoch: 4,
			moves: []directory.Move{undo("b", "a", "c1", "c2", 2, directory.Aborting), move("a", "c2", "c1", 1, directory.Watching)},
			want:  fence.Fence{State: active, Epoch: 4, Capture: true, Move: "a"},
		},
		"watched": {
			has: fence.Fence{State: active, Epoch: 2, Capture: true, Move: "a"}, cell: "c1", epoch: 2,
			moves: []directory.Move{move("a", "c2", "c1", 1, directory.Watching)}, want: fence.Fence{State: active, Epoch: 2, Capture: true, Move: "a"},
		},
		"the undo of what is watched was aborted": {
			has: fence.Fence{State: active, Epoch: 2, Capture: true, Move: "b"}, cell: "c1", epoch: 4,
			moves: []directory.Move{undo("b", "a", "c1", "c2", 2, directory.Aborting), move("a", "c2", "c1", 1, directory.Watching)},
			want:  fence.Fence{State: active, Epoch: 4, Capture: true, Move: "a"},
		},
		"the watch is over": {
			has: fence.Fence{State: active, Epoch: 2, Capture: true, Move: "a"}, cell: "c1", epoch: 2,
			moves: []directory.Move{move("a", "c2", "c1", 1, directory.Completed)}, want: fence.Fence{State: active, Epoch: 2},
		},
		"it stays suspect": {has: fence.Fence{State: suspect, Epoch: 2}, cell: "c1", epoch: 2, want: fence.Fence{State: suspect, Epoch: 2}},
		"the directory has lost something too": {
			has: fence.Fence{State: active, Epoch: 4}, cell: "c1", epoch: 2, want: fence.Fence{State: active, Epoch: 4},
		},
		"a tombstone at the directory's epoch": {
			has: fence.Fence{State: moved, Epoch: 2, MovedTo: "c2"}, cell: "c1", epoch: 2, want: fence.Fence{State: moved, Epoch: 2, MovedTo: "c2"},
		},
		"its way back was lost": {
			has: fence.Fence{State: moved, Epoch: 2, MovedTo: "c2"}, cell: "c1", epoch: 3,
			moves: []directory.Move{move("b", "c2", "c1", 2, directory.Completed)}, want: fence.Fence{State: suspect, Epoch: 3},
		},

		// The tenant is placed elsewhere.
		"it has left, and that was lost": {
			has: fence.Fence{State: active, Epoch: 1}, cell: "c2", epoch: 2, moves: []directory.Move{move("a", "c1", "c2", 1, directory.Watching)},
			want: fence.Fence{State: moved, Epoch: 2, Move: "a", MovedTo: "c2"}, void: "a",
		},
		"it has left, and the freeze is here": {
			has: fence.Fence{State: frozen, Epoch: 2, Capture: true, Move: "a"}, cell: "c2", epoch: 2,
			moves: []directory.Move{move("a", "c1", "c2", 1, directory.Activated)}, want: fence.Fence{State: moved, Epoch: 2, Move: "a", MovedTo: "c2"},
		},
		"it came here and left, and all of that was lost": {
			has: fence.Fence{State: absent}, cell: "c2", epoch: 3, moves: []directory.Move{move("a", "c1", "c2", 2, directory.Watching)},
			want: fence.Fence{State: moved, Epoch: 3, Move: "a", MovedTo: "c2"}, void: "a",
		},
		"it never was here": {has: fence.Fence{State: absent}, cell: "c2", epoch: 1, want: fence.Fence{State: absent}},
		"it was to come, which is aborted now": {
			has: fence.Fence{State: incoming, Epoch: 2, Move: "a"}, cell: "c2", epoch: 3, moves: []directory.Move{move("a", "c2", "c1", 1, directory.Aborting)},
			want: fence.Fence{State: moved, Epoch: 3, Move: "a", MovedTo: "c2"},
		},
		"it was to come back, which is aborted now": {
			has: fence.Fence{State: incoming, Epoch: 3, Move: "b"}, cell: "c2", epoch: 4,
			moves: []directory.Move{undo("b", "a", "c2", "c1", 2, directory.Aborting), move("a", "c1", "c2", 1, directory.Watching)},
			want:  fence.Fence{State: moved, Epoch: 4, Move: "a", MovedTo: "c2"},
		},
		"an old tombstone": {
			has: fence.Fence{State: moved, Epoch: 2, Move: "a", MovedTo: "c2"}, cell: "c3", epoch: 3,
			moves: []directory.Move{move("a", "c1", "c2", 1, directory.Completed)}, want: fence.Fence{State: moved, Epoch: 2, Move: "a", MovedTo: "c2"},
		},
		"it serves here at a later epoch than the directory knows of elsewhere": {
			has: fence.Fence{State: active, Epoch: 5}, cell: "c2", epoch: 4, want: fence.Fence{State: moved, Epoch: 5, MovedTo: "c2"},
		},
	} {
		f := found{Fence: tt.has, landed: tt.land}
		p := directory.Placement{Cell: tt.cell, Epoch: tt.epoch, State: directory.Active}
		r, changed := judge("c1", f, p, tt.moves)
		if r.Fence != tt.want || r.void != tt.void || changed != (tt.want != tt.has || tt.void != "") {
			t.Errorf("%s: got %+v, void %q, changed %v, want %+v, void %q", name, r.Fence, r.void, changed, tt.want, tt.void)
		}
		if again, _ := judge("c1", found{Fence: r.Fence}, p, tt.moves); again.Fence != r.Fence {
			t.Errorf("%s: judged again: got %+v, want %+v as before", name, again.Fence, r.Fence)
		}
		if f.clear("c1", p, false) && len(tt.moves) == 0 && changed && tt.has.State != absent {
			t.Errorf("%s: it was called clear and is not", name)
		}
	}
}

func TestADeletedTenantIsServedByNobody(t *testing.T) {
	t.Parallel()
	gone := fence.Fence{State: fence.Deleted, Epoch: 4}
	for name, tt := range map[string]struct {
		has   fence.Fence
		cell  directory.CellID
		state directory.State
		want  fence.Fence
	}{
		"it was served here":                  {fence.Fence{State: fence.Active, Epoch: 3}, "c1", directory.Deleted, gone},
		"it stood still":                      {fence.Fence{State: fence.Frozen, Epoch: 4, Move: "a"}, "c1", directory.Deleted, gone},
		"it was suspect":                      {fence.Fence{State: fence.Suspect, Epoch: 3}, "c1", directory.Deleted, gone},
		"it left, was deleted, and is back":   {fence.Fence{State: fence.Active, Epoch: 1}, "c2", directory.Deleted, gone},
		"it is a tombstone already":           {gone, "c1", directory.Deleted, gone},
		"its copy is gone":                    {fence.Fence{State: fence.Moved, Epoch: 2, MovedTo: "c2"}, "c2", directory.Deleted, fence.Fence{State: fence.Moved, Epoch: 2, MovedTo: "c2"}},
		"the directory has lost the deletion": {gone, "c1", directory.Active, gone},
		"it was placed again since":           {fence.Fence{State: fence.Deleted, Epoch: 2}, "c1", directory.Active, fence.Fence{State: fence.Deleted, Epoch: 2}},
		"the deletion is older than what is here": {
			fence.Fence{State: fence.Active, Epoch: 5}, "c1", directory.Deleted, fence.Fence{State: fence.Moved, Epoch: 5, MovedTo: "c1"},
		},
	} {
		p := directory.Placement{Cell: tt.cell, Epoch: 4, State: tt.state}
		if r, _ := judge("c1", found{Fence: tt.has}, p, nil); r.Fence != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, r.Fence, tt.want)
		}
	}
}
