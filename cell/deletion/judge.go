package deletion

import (
	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
)

// A step is what follows from a deletion that the directory lists, and the tenant's
// fence after that was heard.
type step int

const (
	wait    step = iota // it is in its grace, or stands still for less than an hour: kept, and frozen
	purge               // that is over
	report              // nothing is left here: the directory has not heard of it, or has lost it
	raise               // the tombstone is above the deletion's epoch: the record has lost something
	dispute             // so is a fence that is no tombstone: nothing is done
)

// judge says what follows. A fence that is above the deletion's epoch has seen more
// than who says that the tenant is deleted: nothing is purged on that word.
func judge(d directory.Deletion, f fence.Tombstone) step {
	switch {
	case f.State != fence.Deleted || f.Epoch < d.Epoch:
		return dispute
	case f.Epoch > d.Epoch:
		return raise
	case f.Purged:
		return report
	case d.Due && (f.Rested || d.Hurried):
		return purge
	}
	return wait
}
