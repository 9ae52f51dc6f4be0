package reconcile

import (
	"cmp"
	"slices"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
)

// A found is a tenant's fence as this database has it, State Absent where it has none.
type found struct {
	fence.Fence
	landed bool // the whole tenant is here, as its move to here has left it
}

// A row is what a fence becomes.
type row struct {
	fence.Fence
	// void names the move whose copy of the tenant, here or, where the tenant is
	// here, on the other side, is not what it left: an undo copies everything.
	void directory.MoveID
}

// clear reports whether the fence needs no look at the tenant's moves.
func (f found) clear(self directory.CellID, p directory.Placement, open bool) bool {
	switch {
	case open || p.State == directory.Deleted:
		return false
	case p.Cell != self:
		return f.State == fence.Moved || f.State == fence.Deleted || f.State == fence.Absent
	case f.State == fence.Absent:
		return p.Epoch == 1
	}
	return f.State == fence.Active && f.Epoch == p.Epoch && !f.Capture && f.Move == ""
}

// judge says what a tenant's fence becomes, given where the directory places the
// tenant after every undecided move of this cell was aborted, and all its moves.
// changed is false where the fence is right as it is. It is pure.
//
// A database that lost its tail is what it was at some moment: whatever its fence
// says was true once, and everything that was committed before that is here.
func judge(self directory.CellID, f found, p directory.Placement, moves []directory.Move) (r row, changed bool) {
	if p.Cell == self && p.State != directory.Deleted {
		r = stays(self, f, p, moves)
	} else {
		r = leaves(self, f, p, moves)
	}
	r.Tenant = f.Tenant
	return r, r.Fence != f.Fence || r.void != ""
}

// stays is the fence of a tenant that is placed here. It is active only if nothing
// but aborted moves led from what is here to the directory's epoch: else the
// tenant was elsewhere in between, and came back with rows that are not here.
func stays(self directory.CellID, f found, p directory.Placement, moves []directory.Move) row {
	r := row{Fence: f.Fence}
	if f.State == fence.Deleted {
		return r // the directory has lost the deletion; an operator says what is to be (cell.undelete)
	}
	if f.Epoch > p.Epoch || f.State == fence.Moved && f.Epoch == p.Epoch {
		return r // the directory has lost something too; what is here lets nobody in
	}
	watch, watched := open(moves, func(m directory.Move) bool { return m.Target == self })
	base, here := servedAt(self, f, moves)
	r.Fence = fence.Fence{Epoch: p.Epoch, State: fence.Suspect}
	if here && onlyAborted(self, base, p.Epoch, moves) {
		r.State = fence.Active
		r.Capture = watched && (f.Capture || f.State == fence.Incoming)
	}
	if r.Capture {
		r.Move = string(watch.ID)
	} else if watched {
		r.void = watch.ID // what has changed since the other side's copy was not noted
	}
	return r
}

// servedAt is the epoch at which this database certainly has the tenant.
func servedAt(self directory.CellID, f found, moves []directory.Move) (directory.Epoch, bool) {
	switch f.State {
	case fence.Absent:
		return 1, true // it was placed here and has not used it, as far as anybody knows here
	case fence.Active:
		return f.Epoch, true
	case fence.Frozen:
		return f.Epoch - 1, true
	case fence.Incoming:
		decided := slices.ContainsFunc(moves, func(m directory.Move) bool {
			return string(m.ID) == f.Move && m.Target == self && m.Base+1 == f.Epoch && !m.Phase.BeforeDecision() && !aborted(m)
		})
		return f.Epoch, f.landed && decided
	}
	return 0, false
}

// onlyAborted reports whether the tenant, served here at from, came to epoch to by
// aborted moves alone.
func onlyAborted(self directory.CellID, from, to directory.Epoch, moves []directory.Move) bool {
	for ; from < to; from += 2 {
		if !slices.ContainsFunc(moves, func(m directory.Move) bool { return m.Base == from && m.Source == self && aborted(m) }) {
			return false
		}
	}
	return from == to
}

func aborted(m directory.Move) bool {
	return m.Phase == directory.Aborting || m.Phase == directory.Aborted
}

// leaves is the fence of a tenant that is placed elsewhere, or deleted: a tombstone,
// which carries the name of the move that has yet to clear up behind it. Deleted is who is
// so for the directory at no older epoch than the fence's; it is purged by package deletion.
func leaves(self directory.CellID, f found, p directory.Placement, moves []directory.Move) row {
	r := row{Fence: f.Fence}
	switch {
	case f.State == fence.Deleted:
		return r
	case p.State == directory.Deleted && f.Epoch <= p.Epoch && f.State != fence.Absent && f.State != fence.Moved:
		r.Fence = fence.Fence{Epoch: p.Epoch, State: fence.Deleted}
		return r
	}
	left, watched := open(moves, func(m directory.Move) bool { return m.Source == self })
	if !watched && (f.State == fence.Absent || f.State == fence.Moved) {
		return r
	}
	r.Fence = fence.Fence{Epoch: max(p.Epoch, f.Epoch), State: fence.Moved, Move: f.Move, MovedTo: p.Cell}
	switch i := slices.IndexFunc(moves, func(m directory.Move) bool { return m.Phase == directory.Aborting && m.Target == self }); {
	case watched:
		r.Move = string(left.ID)
		if !stoodStill(f, left.ID, moves) {
			r.void = left.ID
		}
	case i >= 0:
		r.Move = string(cmp.Or(moves[i].Undoes, moves[i].ID))
	}
	return r
}

// stoodStill reports whether this database knew that the tenant was frozen for the
// move: then its copy is whole. An undo that began has had it so before.
func stoodStill(f found, left directory.MoveID, moves []directory.Move) bool {
	switch f.State {
	case fence.Frozen, fence.Moved:
		return f.Move == string(left)
	case fence.Incoming:
		return slices.ContainsFunc(moves, func(m directory.Move) bool { return string(m.ID) == f.Move && m.Undoes == left })
	}
	return false
}

// open is the decided move of the tenant that has not ended, if it is of that kind.
func open(moves []directory.Move, kind func(directory.Move) bool) (directory.Move, bool) {
	i := slices.IndexFunc(moves, func(m directory.Move) bool {
		return kind(m) && !m.Phase.Ended() && !m.Phase.BeforeDecision() && m.Phase != directory.Aborting
	})
	if i < 0 {
		return directory.Move{}, false
	}
	return moves[i], true
}
