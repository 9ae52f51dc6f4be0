package table

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"iter"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// packFrom is how many tenants make a base worth while: fewer stay in segments,
// where they cost three times as much and their names are kept in full.
const packFrom = 1 << 16

// errCollision says that two names have one hash, or that one name is there twice.
var errCollision = errors.New("two names have the same hash")

// A source is what a base is built of. Both are read more than once.
type source struct {
	tenants iter.Seq[record]                                         // by number, each once
	names   func(hash func(string) uint64) iter.Seq2[uint64, record] // hash and tenant
}

// keys is how many keys are tried. Names of ten million tenants collide under one
// key in a few of a million cases.
const keys = 3

// packRoutes builds a base of a snapshot's routes. A tenant or a name that is
// there twice is Invalid.
func packRoutes(routes []directory.Route, cells map[directory.CellID]int) (*base, error) {
	sorted := routes
	byTenant := func(a, b directory.Route) int { return cmp.Compare(a.Tenant, b.Tenant) }
	if !slices.IsSortedFunc(sorted, byTenant) {
		sorted = slices.SortedFunc(slices.Values(routes), byTenant)
	}
	var wrong error
	from := source{
		tenants: func(yield func(record) bool) {
			for i := range sorted {
				r, err := newRecord(sorted[i].Placement, cells[sorted[i].Cell])
				if err == nil && i > 0 && sorted[i-1].Tenant == sorted[i].Tenant {
					err = problem.New(problem.Invalid, "tenant %d is there twice", r.tenant)
				}
				if err != nil {
					wrong = err
					return
				}
				if !yield(r) {
					return
				}
			}
		},
		names: func(hash func(string) uint64) iter.Seq2[uint64, record] {
			return func(yield func(uint64, record) bool) {
				for i := range sorted {
					r, _ := newRecord(sorted[i].Placement, cells[sorted[i].Cell]) // valid, or tenants had said so
					for name := range namesOf(&sorted[i]) {
						if len(name) > maxName {
							wrong = problem.New(problem.Invalid, "name of %d bytes", len(name))
						}
						if !yield(hash(name), r) {
							return
						}
					}
				}
			}
		},
	}
	for range keys {
		b, err := pack(from, newKey())
		if wrong != nil {
			return nil, wrong
		}
		if !errors.Is(err, errCollision) {
			return b, err
		}
	}
	return nil, problem.New(problem.Invalid, "a name is there twice")
}

func newKey() [2]uint64 {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	return [2]uint64{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])}
}

// pack builds a base under a key.
func pack(from source, key [2]uint64) (*base, error) {
	b := &base{key: key}
	_, _ = rand.Read(b.id[:]) // never fails
	codes := b.measure(from)
	if b.idBytes+b.codeBytes > 8 {
		return nil, problem.New(problem.Invalid, "tenants' numbers are too far apart")
	}
	b.fillTenants(from, codes)
	names, err := b.sortedNames(from, codes)
	if err != nil {
		return nil, err
	}
	for b.span = max(uint64(len(names))*dense/(dense-1)+1, fewest); !b.fillNames(names); b.span += b.span / dense {
	}
	b.names = len(names)
	return b, nil
}

// measure counts and finds out how wide the fields have to be.
func (b *base) measure(from source) map[uint64]uint64 {
	codes := map[uint64]uint64{}
	var last, highest, blocks uint64
	first := true
	for r := range from.tenants {
		if first {
			b.lowest = r.tenant
		}
		if n := (r.tenant - b.lowest) >> perBlock; first || n != last {
			blocks, last = blocks+1, n
		}
		if _, known := codes[r.packed]; !known {
			codes[r.packed] = uint64(len(b.kinds))
			b.kinds = append(b.kinds, r.packed)
		}
		first, highest = false, r.tenant
		b.tenants++
	}
	b.rooms = uint64(room(int(blocks))) //nolint:gosec // as many as tenants at most
	b.idBytes = max(1, (bits.Len64(highest-b.lowest)+7)/8)
	b.codeBytes = max(1, (bits.Len(uint(max(1, len(b.kinds))-1))+7)/8)
	return codes
}

func (b *base) fillTenants(from source, codes map[uint64]uint64) {
	b.blocks = make([]byte, int(b.rooms)*blockSize) //nolint:gosec // as many as tenants at most
	b.codes = make([]byte, b.tenants*b.codeBytes+tail)
	var block []byte
	rank, last := 0, uint64(0)
	for r := range from.tenants {
		n := r.tenant - b.lowest
		if block == nil || n>>perBlock != last {
			block, last = b.newBlock(n>>perBlock), n>>perBlock
			binary.LittleEndian.PutUint32(block[16:], uint32(rank)) //nolint:gosec // the file's format ends at 4 G tenants
		}
		taken := binary.LittleEndian.Uint64(block[8:])
		binary.LittleEndian.PutUint64(block[8:], taken|1<<(n&inBlock))
		putLittle(b.codes, rank*b.codeBytes, b.codeBytes, codes[r.packed])
		rank++
	}
}

func (b *base) newBlock(number uint64) []byte {
	i := start(mix(number), int(b.rooms)) //nolint:gosec // as many as tenants at most
	for binary.LittleEndian.Uint64(b.blocks[i*blockSize:]) != 0 {
		i = after(i, int(b.rooms)) //nolint:gosec // as above
	}
	block := b.blocks[i*blockSize:][:blockSize]
	binary.LittleEndian.PutUint64(block, number+1)
	return block
}

// A hashed is a name's hash and what its slot says besides.
type hashed struct{ hash, says uint64 }

// perPart is about how many names one part has of those into which they are dealt
// before each part is sorted: few enough to stay in cache, and not so few that
// dealing waits for memory with each name.
const perPart = 1 << 12

// sortedNames is the names by their hash. They are dealt to parts by a second
// reading of the source, which costs a hash each and saves a second array.
func (b *base) sortedNames(from source, codes map[uint64]uint64) ([]hashed, error) {
	shift := 64 - bits.Len(uint(b.tenants/perPart)) //nolint:gosec // not negative
	ends := make([]int, 1<<(64-shift))
	n := 0
	for h := range from.names(b.hash) {
		ends[h>>shift]++
		n++
	}
	sum := 0
	for i, in := range ends {
		ends[i], sum = sum, sum+in
	}
	out := make([]hashed, n)
	for h, r := range from.names(b.hash) {
		out[ends[h>>shift]] = hashed{h, (r.tenant-b.lowest)<<(8*b.codeBytes) | codes[r.packed]}
		ends[h>>shift]++
	}
	begin := 0
	for _, end := range ends {
		slices.SortFunc(out[begin:end], func(x, y hashed) int { return cmp.Compare(x.hash, y.hash) })
		begin = end
	}
	for i := 1; i < n; i++ {
		if out[i-1].hash == out[i].hash {
			return nil, errCollision
		}
	}
	return out, nil
}

// fillNames places the names; false where one comes too far from its home.
func (b *base) fillNames(names []hashed) bool {
	size := b.slotSize()
	b.slots = make([]byte, (int(b.span)+farthest+1)*size+tail) //nolint:gosec // about as many as names
	next := uint64(0)
	for _, n := range names {
		home := b.home(n.hash)
		place := max(home, next)
		if place-home > farthest {
			return false
		}
		at := int(place) * size //nolint:gosec // less than the length of slots
		binary.LittleEndian.PutUint64(b.slots[at:], n.hash<<8&hashMask|(place-home+1))
		putLittle(b.slots, at+hashBytes, size-hashBytes, n.says)
		next = place + 1
	}
	used := max(next, b.span) + 1                        // the one after the last is free
	b.slots = slices.Clip(b.slots[:int(used)*size+tail]) //nolint:gosec // as above
	return true
}

// putLittle writes an integer in size bytes, at most eight.
func putLittle(b []byte, at, size int, v uint64) {
	for i := range size {
		b[at+i] = byte(v >> (8 * i)) //nolint:gosec // the byte is meant
	}
}

// bytesOf is the string's bytes, which nobody changes, without a copy.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
