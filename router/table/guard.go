package table

import (
	"sync/atomic"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Guard is how much of a table one update may take away before it is refused:
// the last good table then stays, until an operator allows the change. Tenants
// count that the update ends, forgets or gives to another cell. A move changes one
// tenant at a time and is never refused.
type Guard struct {
	Share  float64 // of the tenants that are known; 0 refuses nothing
	AtMost int     // so many may always go
}

// guarding is the guard at work.
type guarding struct {
	Guard
	allowed  atomic.Int64 // updates up to this version pass
	refusing atomic.Int64 // the version that was refused last; 0 once one has passed
	refused  atomic.Int64 // how many were
}

// Allow lets updates up to version pass the guard, whatever they take away.
func (t *Table) Allow(version directory.Version) { t.guard.allowed.Store(int64(version)) }

// SetGuard sets how much one update may take away; it is called before the first.
func (t *Table) SetGuard(g Guard) { t.guard.Guard = g }

// Refusing is the version of the update that the guard refused last, 0 where the
// newest has passed; refused is how many there were.
func (t *Table) Refusing() (version directory.Version, refused int64) {
	return directory.Version(t.guard.refusing.Load()), t.guard.refused.Load()
}

// check refuses an update that takes too much away from v.
func (g *guarding) check(v *View, u directory.Update) error {
	if g.Share <= 0 || v.source == FromNowhere || int64(u.Version) <= g.allowed.Load() {
		return nil
	}
	taken := v.taken(u)
	if taken <= g.AtMost || float64(taken) <= g.Share*float64(v.tenants) {
		return nil
	}
	g.refusing.Store(int64(u.Version))
	g.refused.Add(1)
	return problem.New(problem.Conflict,
		"table version %d takes %d of %d tenants from their cells at once: version %d stays until an operator allows it", u.Version, taken, v.tenants, v.version)
}

// taken is how many tenants u takes from the cells that v knows for them, or
// suspends.
func (v *View) taken(u directory.Update) int {
	taken, known := 0, 0
	for i := range u.Routes {
		r := &u.Routes[i]
		old, ok := v.ByID(r.Tenant)
		if !ok || old.State == directory.Deleted {
			continue
		}
		known++
		if r.State == directory.Deleted || r.State == directory.Suspended && old.State != directory.Suspended || r.Cell != old.Cell && r.Epoch >= old.Epoch {
			taken++
		}
	}
	if u.Since == 0 {
		taken += max(0, v.tenants-known) // whom the snapshot does not name
	}
	return taken
}
