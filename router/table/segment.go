package table

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math"
	"math/bits"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A segment is a set of tenants with their names, in flat arrays that hold no
// pointer, so that the collector never walks a million tenants. It is never
// changed once built. Both indexes are open-addressed with linear probing, three
// quarters full. Placement and names stand side by side, so that a look-up waits
// for memory twice: for the index and for the entry.
type segment struct {
	entries []byte     // one after the other: record (16 bytes), names (length, bytes), 0
	ids     []uint32   // by tenant: offset of the entry + 1; 0 is free
	slots   []nameSlot // by name
	tenants int
	names   int
	open    uint32 // offset + 1 of the entry that is being built
}

// A nameSlot points to the entry that has the name. The tag saves most
// comparisons of full names.
type nameSlot struct {
	tag uint32 // low half of the name's hash
	at  uint32 // offset of the entry + 1; 0 is free
}

const (
	recordSize = 16
	maxName    = math.MaxUint8
	maxEntries = math.MaxUint32 - 64<<10 // bytes, with room for one more entry
)

// newSegment builds a segment of routes. A tenant or a name that is there twice
// is Invalid. Deleted tenants keep their record, which remembers the epoch, and
// no name.
func newSegment(seed maphash.Seed, routes []directory.Route, cells map[directory.CellID]int) (*segment, error) {
	names, size := 0, 0
	for i := range routes {
		size += recordSize + 1
		for name := range namesOf(&routes[i]) {
			names, size = names+1, size+1+len(name)
		}
	}
	s := sized(len(routes), names, size)
	for i := range routes {
		r, err := newRecord(routes[i].Placement, cells[routes[i].Cell])
		if err != nil {
			return nil, err
		}
		if !s.begin(r) {
			return nil, problem.New(problem.Invalid, "tenant %d is there twice", r.tenant)
		}
		for name := range namesOf(&routes[i]) {
			if err := s.add(seed, []byte(name)); err != nil {
				return nil, err
			}
		}
		s.end()
	}
	return s, nil
}

// namesOf is the names by which a route is found.
func namesOf(r *directory.Route) iter.Seq[string] {
	return func(yield func(string) bool) {
		if r.State == directory.Deleted {
			return
		}
		if r.Slug != "" && !yield(r.Slug) {
			return
		}
		for _, h := range r.Hosts {
			if !yield(h) {
				return
			}
		}
	}
}

// sized makes an empty segment with exactly the room it will need.
func sized(tenants, names, size int) *segment {
	return &segment{
		entries: make([]byte, 0, size),
		ids:     make([]uint32, room(tenants)),
		slots:   make([]nameSlot, room(names)),
	}
}

// room is the length of an index of n that is three quarters full and never quite full.
func room(n int) int { return n + n/3 + 1 }

// begin opens an entry for r; false where its tenant has one.
func (s *segment) begin(r record) bool {
	i := start(mix(r.tenant), len(s.ids))
	for s.ids[i] != 0 {
		if s.record(s.ids[i]).tenant == r.tenant {
			return false
		}
		i = after(i, len(s.ids))
	}
	s.open = uint32(len(s.entries)) + 1 //nolint:gosec // add bounds it
	s.entries = binary.LittleEndian.AppendUint64(s.entries, r.tenant)
	s.entries = binary.LittleEndian.AppendUint64(s.entries, r.packed)
	s.ids[i] = s.open
	s.tenants++
	return true
}

// add gives the open entry a name. Invalid where the name is there already or
// cannot be one.
func (s *segment) add(seed maphash.Seed, name []byte) error {
	if len(name) == 0 || len(name) > maxName || len(s.entries) > maxEntries {
		return problem.New(problem.Invalid, "name of %d bytes, after %d bytes of entries", len(name), len(s.entries))
	}
	h := maphash.Bytes(seed, name)
	i := start(h, len(s.slots))
	for s.slots[i].at != 0 {
		if s.match(s.slots[i], h, string(name)) {
			return problem.New(problem.Invalid, "name %q is there twice", name)
		}
		i = after(i, len(s.slots))
	}
	s.slots[i] = nameSlot{uint32(h), s.open} //nolint:gosec // the tag is the low half
	s.entries = append(s.entries, byte(len(name)))
	s.entries = append(s.entries, name...)
	s.names++
	return nil
}

// end closes the open entry.
func (s *segment) end() { s.entries = append(s.entries, 0) }

// byID is a tenant's record.
func (s *segment) byID(id directory.TenantID) (record, bool) {
	i := start(mix(uint64(id)), len(s.ids))
	for s.ids[i] != 0 {
		if r := s.record(s.ids[i]); r.tenant == uint64(id) {
			return r, true
		}
		i = after(i, len(s.ids))
	}
	return record{}, false
}

// byName is the record of the tenant that owns name, whose hash is h.
func (s *segment) byName(h uint64, name string) (record, bool) {
	i := start(h, len(s.slots))
	for s.slots[i].at != 0 {
		if s.match(s.slots[i], h, name) {
			return s.record(s.slots[i].at), true
		}
		i = after(i, len(s.slots))
	}
	return record{}, false
}

// record reads the record of the entry at offset at - 1.
func (s *segment) record(at uint32) record {
	e := s.entries[at-1:]
	return record{binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])}
}

// match reports whether the entry at a slot has the name, whose hash is h.
func (s *segment) match(slot nameSlot, h uint64, name string) bool {
	if slot.tag != uint32(h) { //nolint:gosec // the tag is the low half
		return false
	}
	for has := range namesAt(s.entries[slot.at-1+recordSize:]) {
		if string(has) == name {
			return true
		}
	}
	return false
}

// namesAt yields the names at the front of b, up to the 0 or, in the entry that
// is open, the end.
func namesAt(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 && b[0] != 0 {
			end := 1 + int(b[0])
			if !yield(b[1:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// each yields the tenants in order, with what follows their record: their names.
func (s *segment) each(yield func(r record, names []byte) bool) {
	for at := 0; at < len(s.entries); {
		rest := s.entries[at+recordSize:]
		if !yield(s.record(uint32(at)+1), rest) { //nolint:gosec // add bounds it
			return
		}
		at += recordSize + 1
		for name := range namesAt(rest) {
			at += 1 + len(name)
		}
	}
}

func (s *segment) bytes() int {
	return cap(s.entries) + cap(s.ids)*4 + cap(s.slots)*8
}

// start maps a hash to a place in an index of length n without a division.
func start(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

func after(i, n int) int {
	if i++; i == n {
		return 0
	}
	return i
}

// mix spreads ids, which the directory gives out one after the other.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
