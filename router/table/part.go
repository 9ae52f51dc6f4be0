package table

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cellway/cellway/directory"
)

// Part is the router's part in a roll-out, the zero Part where there is none.
func (t *Table) Part() *directory.Part {
	if p := t.part.Load(); p != nil {
		return p
	}
	return &directory.Part{}
}

// Refusal is the last part in a roll-out, if it could not be laid over the record.
func (t *Table) Refusal() *directory.Refusal { return t.refusal.Load() }

// mostWhy bounds what a Refusal says.
const mostWhy = 300

// DropPart ends the router's part in a roll-out: the record is served. It is for a
// directory that is silent, so that nobody can say any more how the change fares.
func (t *Table) DropPart() {
	t.apply.Lock()
	defer t.apply.Unlock()
	if t.part.Load() != nil {
		_ = t.take(t.record.Load(), &directory.Part{}) // there is nothing to lay over it
	}
}

// take makes record what the directory's record says, with p as the part from now
// on, in one step for those who read the table. The caller has the lock.
func (t *Table) take(record *View, p *directory.Part) error {
	if p.Rollout == "" {
		p = nil
	}
	t.part.Store(p)
	t.refusal.Store(nil)
	if old := t.record.Load(); record.replaced == old.replaced {
		again := *record
		again.replaced = make(chan struct{}) // what is served changes, though the record does not
		record = &again
	}
	return t.put(record)
}

// put makes record what the directory's record says and, with the part laid over
// it, what is served. Who waits is woken unless record is the old one in another
// form. Where the part cannot be laid over it the record is served as it is, and
// the part is dropped. The caller has the lock.
func (t *Table) put(record *View) (err error) {
	was, old := t.current.Load(), t.record.Load()
	served := record
	if p := t.part.Load(); p.Serves() {
		if served, err = record.under(p); err != nil {
			t.part.Store(nil)
			why := err.Error()
			t.refusal.Store(&directory.Refusal{Rollout: p.Rollout, Round: p.Round, Why: why[:min(len(why), mostWhy)]})
			served, err = record, fmt.Errorf("%w: %s: %w", directory.ErrPart, p.Rollout, err)
		} else if record.replaced == old.replaced {
			served.replaced = was.replaced
		}
	}
	t.record.Store(record)
	t.current.Store(served)
	if old.replaced != record.replaced {
		close(old.replaced)
	}
	if was.replaced != old.replaced && was.replaced != served.replaced {
		close(was.replaced)
	}
	return err
}

// under is v with p laid over it: a segment on top, as of any change. Who owns a
// tenant stays as v knows it, and so does the owner of a name.
func (v *View) under(p *directory.Part) (*View, error) {
	next := *v
	next.replaced = make(chan struct{})
	next.cells = slices.Clone(v.cells)
	for _, c := range p.Cells {
		if i := slices.IndexFunc(next.cells, func(k directory.CellRoute) bool { return k.ID == c.ID }); i >= 0 {
			next.cells[i].Address = c.Address
		}
	}
	var routes []directory.Route
	for _, r := range p.Routes {
		e, ok := v.ByID(r.Tenant)
		if !ok || e.State == directory.Deleted {
			continue
		}
		switch {
		case r.State == directory.Suspended:
			e.State = directory.Suspended
		case r.State != "" && e.State == directory.Suspended:
			e.State = r.State
		}
		r.Placement = e.Placement
		r.Hosts = slices.DeleteFunc(slices.Clone(r.Hosts), func(h string) bool {
			other, taken := v.ByHost(h)
			return taken && other.Tenant != r.Tenant
		})
		routes = append(routes, r)
	}
	if len(routes) == 0 {
		return &next, nil
	}
	s, err := newSegment(v.seed, routes, cellIndex(v.cells))
	next.segments = append([]*segment{s}, v.segments...)
	return &next, err
}

// applied is Apply's last step: what became of the record, and the part that came
// with it.
func (t *Table) applied(next *View, u directory.Update, err error) error {
	if _, broken := errors.AsType[*directory.Breach](err); broken {
		return err // whoever sent that may have sent another part, too
	}
	old := t.record.Load()
	switch {
	case u.Part != nil:
		// Also where the guard keeps the record as it is: a halt must not wait for that.
		return cmp.Or(err, t.take(next, u.Part))
	case next != old:
		return t.put(next)
	}
	return err
}
