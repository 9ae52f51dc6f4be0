package table

import (
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Guard is how much of a table one update may take away before it is refused:
// the last good table then stays, until an operator allows the change. Tenants
// count that the update ends, suspends, forgets or gives to another cell, and all
// tenants of a cell that it retires or leaves without an address. A move changes
// one tenant at a time and is never refused, and neither is the end of an empty cell.
type Guard struct {
	Share  float64 // of the tenants that are known and not deleted; 0 refuses nothing
	AtMost int     // so many may always go
}

// guarding is the guard at work. All but the atomics is under Table.apply.
type guarding struct {
	Guard
	allowed  directory.Version // updates up to this version pass
	refusing atomic.Int64      // the version that was refused first since one has passed; 0: none
	refused  atomic.Int64      // how many were
	taking   int               // how many tenants the update takes that was refused last
	once     allowance
}

// An allowance is for one update that takes as many tenants away, or fewer.
type allowance struct {
	taken int
	until time.Time
}

// allowedFor is how long an allowance of what was refused lasts.
const allowedFor = time.Minute

// Allow lets updates up to version pass the guard, whatever they take away. Where
// that is the refused version or a later one, so does the next update within a
// minute that takes what was refused and at most AtMost tenants more: the directory
// may be at another version by now.
func (t *Table) Allow(version directory.Version) {
	t.apply.Lock()
	defer t.apply.Unlock()
	g := &t.guard
	g.allowed = version
	if first := g.refusing.Load(); first > 0 && int64(version) >= first {
		g.once = allowance{g.taking + g.AtMost, time.Now().Add(allowedFor)}
	}
}

// SetGuard sets how much one update may take away; it is called before the first.
func (t *Table) SetGuard(g Guard) { t.guard.Guard = g }

// Refusing is the version of the update that the guard refused first since one has
// passed, 0 where the newest has; refused is how many there were.
func (t *Table) Refusing() (version directory.Version, refused int64) {
	return directory.Version(t.guard.refusing.Load()), t.guard.refused.Load()
}

// check refuses an update that takes too much away from v.
func (g *guarding) check(v *View, u directory.Update) error {
	if g.Share <= 0 || v.source == FromNowhere || u.Version <= g.allowed {
		return nil
	}
	taken := v.taken(u)
	if taken <= g.AtMost {
		return nil
	}
	live := v.live()
	if float64(taken) <= g.Share*float64(live) {
		return nil
	}
	if taken <= g.once.taken && time.Now().Before(g.once.until) {
		return nil
	}
	g.refusing.CompareAndSwap(0, int64(u.Version))
	g.refused.Add(1)
	g.taking = taken
	return problem.New(problem.Conflict,
		"table version %d takes %d of %d tenants from their cells at once: version %d stays until an operator allows it (roll such changes out: cellctl rollout create)", u.Version, taken, live, v.version)
}

// passed notes that the table has taken an update.
func (g *guarding) passed() {
	g.refusing.Store(0)
	g.once = allowance{}
}

// taken is how many tenants u takes from the cells that v knows for them, or
// suspends, or leaves on a cell that nobody reaches any more.
func (v *View) taken(u directory.Update) int {
	taken, known := 0, 0
	lost := v.lost(u)
	named := map[directory.TenantID]bool{} // only where a cell is lost
	for i := range u.Routes {
		r := &u.Routes[i]
		if len(lost) > 0 {
			named[r.Tenant] = true
		}
		old, ok := v.ByID(r.Tenant)
		if !ok || old.State == directory.Deleted {
			continue
		}
		known++
		if r.State == directory.Deleted || r.State == directory.Suspended && old.State != directory.Suspended ||
			r.Cell != old.Cell && r.Epoch >= old.Epoch || lost[old.Cell] {
			taken++
		}
	}
	if u.Since == 0 {
		if v.tenants > known {
			taken += max(0, v.live()-known) // whom the snapshot does not name
		}
		return taken
	}
	if len(lost) > 0 {
		for r := range v.all {
			if e := v.entry(r); lost[e.Cell] && e.State != directory.Deleted && !named[e.Tenant] {
				taken++
			}
		}
	}
	return taken
}

// lost is the cells that v can reach and that u retires or leaves without an
// address. They are rare: an empty cell is retired, and nothing else should be.
func (v *View) lost(u directory.Update) map[directory.CellID]bool {
	reached := map[directory.CellID]bool{}
	for _, c := range u.Cells {
		reached[c.ID] = c.State != directory.Retired && c.Address != ""
	}
	lost := map[directory.CellID]bool{}
	for _, c := range v.Cells() {
		if ok, named := reached[c.ID]; named && !ok || !named && u.Since == 0 {
			lost[c.ID] = true
		}
	}
	return lost
}

// live counts the tenants that are not deleted: it looks at each of them.
func (v *View) live() (n int) {
	for r := range v.all {
		if v.entry(r).State != directory.Deleted {
			n++
		}
	}
	return n
}

// all yields every tenant once, in no order.
func (v *View) all(yield func(record) bool) {
	for i, s := range v.segments {
		for r := range s.each {
			if !v.hiddenBefore(i, r.id()) && !yield(r) {
				return
			}
		}
	}
	if v.base == nil {
		return
	}
	for r := range v.base.all {
		if !v.hiddenBefore(len(v.segments), r.id()) && !yield(r) {
			return
		}
	}
}
