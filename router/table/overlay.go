package table

import (
	"cmp"
	"iter"
	"slices"

	"github.com/cellway/cellway/infra/problem"
)

// overlayShare is the largest part of the base that the changes on top of it may
// grow to before both are packed into a new one: a changed tenant costs three
// times as much as a packed one.
const overlayShare = 64

// wantsPacking reports whether the changes on top have grown too large.
func (v *View) wantsPacking(packFrom int) bool {
	changed, packed := 0, 0
	for _, s := range v.segments {
		changed += s.tenants
	}
	if v.base != nil {
		packed = v.base.tenants
	}
	return changed >= max(packFrom, packed/overlayShare)
}

// pack builds a new base of the table's base and changes, beside those who read
// and change it, and puts it in their place; what changes meanwhile stays on top.
// The names of a base are known by their hashes only, so a new name that collides
// with one of them is Gone: a snapshot must be packed, under another key.
func (t *Table) pack() error {
	t.apply.Lock()
	from := *t.record.Load()
	from.frozen = len(from.segments)
	_ = t.put(&from) // the same table in another form, here and below
	t.apply.Unlock()

	next, err := from.packed()

	t.apply.Lock()
	defer t.apply.Unlock()
	v := *t.record.Load()
	if err == nil && v.frozen > 0 { // else a snapshot came, which has a base of its own
		v.base, v.segments = next, v.segments[:len(v.segments)-v.frozen]
	}
	v.frozen = 0
	v.tenants = v.countTenants()
	_ = t.put(&v)
	return err
}

// packed is a base of all that the view knows.
func (v *View) packed() (*base, error) {
	var changed []record
	for i, s := range v.segments {
		for r := range s.each {
			if !v.hiddenBefore(i, r.id()) {
				changed = append(changed, r)
			}
		}
	}
	slices.SortFunc(changed, func(a, b record) int { return cmp.Compare(a.tenant, b.tenant) })
	key := newKey()
	if v.base != nil {
		key = v.base.key
	}
	b, err := pack(source{tenants: v.merged(changed), names: v.allNames}, key)
	if err != nil {
		return nil, problem.Wrap(problem.Gone, err, "the table cannot be packed from what is known")
	}
	return b, nil
}

// merged is the tenants of the base with those that have changed.
func (v *View) merged(changed []record) iter.Seq[record] {
	return func(yield func(record) bool) {
		i := 0
		before := func(tenant uint64) bool { // yields what changed up to tenant
			for ; i < len(changed) && changed[i].tenant <= tenant; i++ {
				if !yield(changed[i]) {
					return false
				}
			}
			return true
		}
		if v.base != nil {
			for r := range v.base.all {
				last := i
				if !before(r.tenant) {
					return
				}
				if i > last && changed[i-1].tenant == r.tenant {
					continue
				}
				if !yield(r) {
					return
				}
			}
		}
		before(1<<64 - 1)
	}
}

// allNames is the hash of every name that finds a tenant.
func (v *View) allNames(hash func(string) uint64) iter.Seq2[uint64, record] {
	return func(yield func(uint64, record) bool) {
		for i, s := range v.segments {
			for r, names := range s.each {
				if v.hiddenBefore(i, r.id()) {
					continue
				}
				for name := range namesAt(names) {
					if !yield(hash(string(name)), r) {
						return
					}
				}
			}
		}
		if v.base == nil {
			return
		}
		for h, r := range v.base.hashes() {
			if !v.hiddenBefore(len(v.segments), r.id()) && !yield(h, r) {
				return
			}
		}
	}
}
