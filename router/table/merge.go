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
	if len(s.records) == 0 {
		return older, nil
	}
	for len(older) > 0 && len(s.records)*growth > len(older[0].records) {
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
	out := sized(len(newer.records)+len(older.records), newer.count+older.count, len(newer.names)+len(older.names))
	for _, r := range newer.records {
		out.addRecord(r)
	}
	kept := make([]int32, len(older.records)) // index in out, or -1
	for i, r := range older.records {
		kept[i] = -1
		if out.addRecord(r) {
			kept[i] = int32(len(out.records) - 1) //nolint:gosec // an index fits in 32 bits
		}
	}
	for rec, name := range newer.each {
		if err := out.addName(seed, rec, name); err != nil {
			return nil, err
		}
	}
	for rec, name := range older.each {
		if kept[rec] < 0 {
			continue
		}
		if _, taken := newer.byName(maphash.Bytes(seed, name), string(name)); taken {
			continue
		}
		if err := out.addName(seed, int(kept[rec]), name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
