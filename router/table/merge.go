package table

import (
	"hash/maphash"
)

// growth is how much larger a segment is than the next newer one, at least. A
// change is copied at most growth times on each level, and a million tenants
// with changes have at most seven levels, of which all but the last are small.
const growth = 8

// push puts s on top of older (newest first), merging while the sizes are too
// close. The segments in older are not changed.
func push(seed maphash.Seed, s *segment, older []*segment) ([]*segment, error) {
	if s.tenants == 0 {
		return older, nil
	}
	for len(older) > 0 && s.tenants*growth > older[0].tenants {
		merged, err := merge(seed, s, older[0])
		if err != nil {
			return nil, err
		}
		s, older = merged, older[1:]
	}
	return append([]*segment{s}, older...), nil
}

// merge is what newer and older say together: a tenant in newer hides the same
// one in older, with all its names, and so does a name.
func merge(seed maphash.Seed, newer, older *segment) (*segment, error) {
	out := sized(newer.tenants+older.tenants, newer.names+older.names, len(newer.entries)+len(older.entries))
	for _, s := range []*segment{newer, older} {
		for r, names := range s.each {
			if !out.begin(r) {
				continue // newer has the tenant
			}
			for name := range namesAt(names) {
				if _, taken := newer.byName(maphash.Bytes(seed, name), string(name)); taken && s == older {
					continue
				}
				if err := out.add(seed, name); err != nil {
					return nil, err
				}
			}
			out.end()
		}
	}
	return out, nil
}
