// Package table holds what a router knows: which cell owns each tenant.
//
// A lookup takes no lock, does no I/O and allocates nothing: a [View] is never
// changed after it is stored and is swapped as a whole. The names are kept and
// compared in full, so a name that nobody owns never finds a tenant. DESIGN.md
// says how it is laid out and what a tenant costs.
package table

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Where a table came from.
const (
	FromNowhere   = "none"
	FromDisk      = "disk"
	FromDirectory = "directory"
)

// An Entry is what the table says of one tenant.
type Entry struct {
	directory.Placement
	// Address is the base URL of the owning cell, "" where the table does not
	// know the cell or knows that it is retired.
	Address string
}

// A Table answers which cell owns a tenant. Make it with New.
type Table struct {
	current   atomic.Pointer[View] // what is served
	record    atomic.Pointer[View] // what the directory's record says, and the disk keeps: the same unless a part is laid over it
	part      atomic.Pointer[directory.Part]
	refusal   atomic.Pointer[directory.Refusal]
	confirmed atomic.Int64 // Unix nanoseconds: see Confirmed
	apply     sync.Mutex   // one writer at a time
	seed      maphash.Seed // secret, so that nobody can choose names that collide
	packFrom  int          // see the constant

	refusedFiles atomic.Int64
	breaches     map[string]*atomic.Int64 // by reason; the map itself never changes
	guard        guarding
}

// New makes a Table that knows no tenant and is not loaded.
func New() *Table {
	t := &Table{seed: maphash.MakeSeed(), packFrom: packFrom, breaches: map[string]*atomic.Int64{}}
	for _, reason := range Reasons {
		t.breaches[reason] = new(atomic.Int64)
	}
	empty := &View{seed: t.seed, source: FromNowhere, replaced: make(chan struct{})}
	t.record.Store(empty)
	t.current.Store(empty)
	return t
}

// View is the table as it is served now. A request that asks more than once asks one View.
func (t *Table) View() *View { return t.current.Load() }

// Loaded reports whether a table was ever applied or loaded.
func (t *Table) Loaded() bool { return t.View().source != FromNowhere }

// Confirmed is when the directory last spoke of the table as it is here: when it
// confirmed or changed it, or said what has changed since and the guard refuses; zero
// where it never has. A snapshot that is refused is no such word.
func (t *Table) Confirmed() time.Time {
	n := t.confirmed.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Apply brings the table up to date with u, which the directory sent. What the
// table has already is no error and no change, so an update may come twice, late
// or overlapping. Version never goes down and neither does any tenant's epoch: a
// route with a lower epoch than is known leaves the placement as it is. Changes
// that do not continue the table's chain are a *directory.Breach (start again from
// a snapshot), an update that breaks a rule of its own is Invalid, one that takes
// too much away is a Conflict (see Guard); then nothing has changed but, where
// there is no Breach, the part in a roll-out. directory.ErrPart says that the part
// cannot be laid over the record, which has taken u. A snapshot of
// the table's version replaces a table that has another history.
func (t *Table) Apply(u directory.Update) error {
	t.apply.Lock()
	defer t.apply.Unlock()
	next, err := t.next(u)
	return t.applied(next, u, err)
}

// next is the view of the record that u makes of it; the one that there is where u
// brings nothing or an error.
func (t *Table) next(u directory.Update) (*View, error) {
	old := t.record.Load()
	loaded := old.source != FromNowhere
	switch {
	case u.Since > u.Version:
		return old, problem.New(problem.Invalid, "update goes back from version %d to %d", u.Since, u.Version)
	case loaded && u.Version < old.version && u.Since == 0:
		return old, &directory.Breach{Reason: directory.Older, Detail: fmt.Sprintf("snapshot of version %d is older than version %d", u.Version, old.version)}
	case loaded && u.Version < old.version:
		return old, nil // late: another asked at the same time and was faster
	}
	if err := u.Continues(old.version, old.chain); err != nil {
		return old, err
	}
	// What a roll-out has taken already is not taken at once.
	same := loaded && u.Version == old.version && (u.Since != 0 || u.Head == old.chain)
	var refused error
	if !same {
		refused = t.guard.check(t.View(), u)
	}
	if refused == nil || u.Since != 0 {
		t.confirmed.Store(time.Now().UnixNano())
	}
	switch {
	case same:
		t.markConfirmed(old)
		return t.record.Load(), nil
	case refused != nil:
		return old, refused
	}
	next, err := old.with(u, t.packFrom)
	if err != nil {
		return old, err
	}
	t.guard.passed()
	return next, nil
}

// Confirm says that the directory has just answered that version with head is the
// newest. It is a *directory.Breach where the table is at that version by another
// history, and says nothing of a table that is ahead of it.
func (t *Table) Confirm(version directory.Version, head directory.Head) error {
	t.apply.Lock()
	defer t.apply.Unlock()
	v := t.record.Load()
	if v.version == version && !v.chain.IsZero() && v.chain != head {
		return &directory.Breach{
			Reason: directory.Fork, Detail: fmt.Sprintf("the directory's version %d has head %x, the table's %x", version, head[:8], v.chain[:8]),
		}
	}
	if version < v.version {
		return nil // late, or of a record that has lost this version: the next question tells
	}
	t.confirmed.Store(time.Now().UnixNano())
	if v.source == FromDisk {
		t.markConfirmed(v)
	}
	return nil
}

// markConfirmed turns a table from the disk, which the directory has just
// confirmed, into one of the directory's. Nobody has to be woken for that.
func (t *Table) markConfirmed(old *View) {
	if old.source == FromDirectory {
		return
	}
	next := *old
	next.source = FromDirectory
	_ = t.put(&next) // what could be laid over old can be over it
}

// replace puts a table that was read from disk in place of an empty one.
func (t *Table) replace(next *View) {
	t.apply.Lock()
	defer t.apply.Unlock()
	if t.View().source == FromNowhere {
		_ = t.put(next) // without a part
	}
}

// Reasons are those of a directory.Breach.
var Reasons = []string{directory.Gap, directory.Older, directory.Content, directory.Fork}

// Broken counts that the directory's answer did not continue the table.
func (t *Table) Broken(reason string) {
	if n := t.breaches[reason]; n != nil {
		n.Add(1)
	}
}

// Breaches is how often Broken was called.
func (t *Table) Breaches(reason string) int64 { return t.breaches[reason].Load() }

// RefusedFiles is how many files were refused that were to hold a good table.
func (t *Table) RefusedFiles() int64 { return t.refusedFiles.Load() }

// rebase puts a base that is the same as old, but in a mapped file, in its place.
func (t *Table) rebase(old, same *base) {
	t.apply.Lock()
	defer t.apply.Unlock()
	if v := *t.record.Load(); v.base == old {
		v.base = same
		_ = t.put(&v) // what could be laid over old can be over it
	}
}
