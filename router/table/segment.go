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
// changed once built. Both indexes are open-addressed with linear probing,
// three quarters full.
type segment struct {
	records []record
	ids     []uint32   // by tenant: index into records + 1; 0 is free
	slots   []nameSlot // by name
	names   []byte     // entries: record index (4 bytes), length (1 byte), name
	count   int        // names
}

// A nameSlot points to a name. The tag saves most comparisons of full names.
type nameSlot struct {
	tag uint32 // low half of the name's hash
	at  uint32 // offset of the entry in names + 1; 0 is free
}

const (
	nameHead = 5 // bytes before the name in an entry
	maxName  = math.MaxUint8
	maxNames = math.MaxUint32 - nameHead - maxName
)

// newSegment builds a segment of routes. A tenant or a name that is there twice
// is Invalid. Deleted tenants keep their record, which remembers the epoch, and
// no name.
func newSegment(seed maphash.Seed, routes []directory.Route, cells map[directory.CellID]int) (*segment, error) {
	names, size := 0, 0
	for i := range routes {
		for name := range namesOf(&routes[i]) {
			names, size = names+1, size+nameHead+len(name)
		}
	}
	s := sized(len(routes), names, size)
	for i := range routes {
		r, err := newRecord(routes[i].Placement, cells[routes[i].Cell])
		if err != nil {
			return nil, err
		}
		if !s.addRecord(r) {
			return nil, problem.New(problem.Invalid, "tenant %d is there twice", r.tenant)
		}
		for name := range namesOf(&routes[i]) {
			if err := s.addName(seed, i, []byte(name)); err != nil {
				return nil, err
			}
		}
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
func sized(records, names, nameBytes int) *segment {
	return &segment{
		records: make([]record, 0, records),
		ids:     make([]uint32, room(records)),
		slots:   make([]nameSlot, room(names)),
		names:   make([]byte, 0, nameBytes),
	}
}

// room is the length of an index of n that is three quarters full and never quite full.
func room(n int) int { return n + n/3 + 1 }

// addRecord appends r; false where its tenant is there already.
func (s *segment) addRecord(r record) bool {
	i := start(mix(r.tenant), len(s.ids))
	for s.ids[i] != 0 {
		if s.records[s.ids[i]-1].tenant == r.tenant {
			return false
		}
		i = after(i, len(s.ids))
	}
	s.records = append(s.records, r)
	s.ids[i] = uint32(len(s.records)) //nolint:gosec // newSegment and the file reader bound the count
	return true
}

// addName appends a name of the record at index rec. Invalid where the name is
// there already or cannot be one.
func (s *segment) addName(seed maphash.Seed, rec int, name []byte) error {
	if len(name) == 0 || len(name) > maxName || len(s.names) > maxNames {
		return problem.New(problem.Invalid, "name of %d bytes, after %d bytes of names", len(name), len(s.names))
	}
	h := maphash.Bytes(seed, name)
	i, ok := s.free(h, string(name))
	if !ok {
		return problem.New(problem.Invalid, "name %q is there twice", name)
	}
	s.slots[i] = nameSlot{uint32(h), uint32(len(s.names)) + 1} //nolint:gosec // bounded above; the tag is the low half
	s.names = binary.LittleEndian.AppendUint32(s.names, uint32(rec))
	s.names = append(s.names, byte(len(name)))
	s.names = append(s.names, name...)
	s.count++
	return nil
}

// free is the slot for a new name; false where the name has one.
func (s *segment) free(h uint64, name string) (int, bool) {
	i := start(h, len(s.slots))
	for s.slots[i].at != 0 {
		if _, known := s.match(s.slots[i], h, name); known {
			return 0, false
		}
		i = after(i, len(s.slots))
	}
	return i, true
}

// byID is the index of a tenant's record.
func (s *segment) byID(id directory.TenantID) (int, bool) {
	i := start(mix(uint64(id)), len(s.ids))
	for s.ids[i] != 0 {
		if at := s.ids[i] - 1; s.records[at].tenant == uint64(id) {
			return int(at), true
		}
		i = after(i, len(s.ids))
	}
	return 0, false
}

// byName is the index of the record that owns name, whose hash is h.
func (s *segment) byName(h uint64, name string) (int, bool) {
	i := start(h, len(s.slots))
	for s.slots[i].at != 0 {
		if rec, ok := s.match(s.slots[i], h, name); ok {
			return rec, true
		}
		i = after(i, len(s.slots))
	}
	return 0, false
}

// match compares the name at a slot, and gives the record that it belongs to.
func (s *segment) match(slot nameSlot, h uint64, name string) (int, bool) {
	if slot.tag != uint32(h) { //nolint:gosec // the tag is the low half
		return 0, false
	}
	e := s.names[slot.at-1:]
	n := int(e[4])
	if n != len(name) || string(e[nameHead:nameHead+n]) != name {
		return 0, false
	}
	return int(binary.LittleEndian.Uint32(e)), true
}

// each yields the names in order, with the index of their record.
func (s *segment) each(yield func(rec int, name []byte) bool) {
	for at := 0; at < len(s.names); {
		end := at + nameHead + int(s.names[at+4])
		if !yield(int(binary.LittleEndian.Uint32(s.names[at:])), s.names[at+nameHead:end]) {
			return
		}
		at = end
	}
}

func (s *segment) bytes() int {
	return cap(s.records)*16 + cap(s.ids)*4 + cap(s.slots)*8 + cap(s.names)
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
