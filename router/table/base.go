package table

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"runtime"
	"slices"

	"github.com/dchest/siphash"

	"github.com/cellway/cellway/directory"
)

// A base is a large set of tenants in about 16 bytes each, in memory or in a
// mapped file, and is never changed once built. Names are not in it: only their
// keyed hashes, of which no two are equal. Three flat arrays:
//
//   - slots, one for each name, in the order of the hashes: how far the slot is
//     from its home + 1 (0: free), the low 48 bits of the hash, the code of the
//     tenant's placement, the tenant's number less lowest. Home and low bits together
//     are the whole hash, because two hashes of one home differ by less than 2^48;
//   - blocks of 64 numbers, by number: which of them are tenants, and the rank of
//     the first; an open-addressed index;
//   - codes, by rank: the code of the placement.
//
// A code stands for epoch, cell and state, of which few combinations occur.
type base struct {
	id     [16]byte // of this build
	key    [2]uint64
	kinds  []uint64 // by code: a record's packed half
	slots  []byte
	blocks []byte
	codes  []byte

	lowest    uint64 // the smallest tenant
	span      uint64 // how many homes there are
	rooms     uint64 // how many blocks have room
	idBytes   int
	codeBytes int
	tenants   int
	names     int
}

const (
	hashBytes = 7               // distance and low bits
	hashMask  = 1<<56 - 1       // of a slot read as an integer
	lowBits   = 48              // of the hash, kept in the slot
	lowMask   = 1<<lowBits - 1  //
	farthest  = 1<<8 - 2        // from home
	fewest    = 1<<(64-48) + 1  // homes, so that two hashes of one home differ by less than 2^48
	blockSize = 8 + 8 + 4       // number + 1, bitmap, rank
	tail      = 16              // bytes after a section, so that a whole word can be read at its end
	perBlock  = 6               // 64 numbers
	inBlock   = 1<<perBlock - 1 //
	dense     = 10              // names take dense/(dense-1) slots
)

// hash is the keyed hash of a name. Who does not know the key cannot choose names
// that collide, neither with each other nor with a tenant's.
func (b *base) hash(name string) uint64 { return siphash.Hash(b.key[0], b.key[1], bytesOf(name)) }

func (b *base) slotSize() int { return hashBytes + b.idBytes + b.codeBytes }

func (b *base) home(h uint64) uint64 {
	hi, _ := bits.Mul64(h, b.span)
	return hi
}

// byName is the record of the tenant whose name has the hash. It reads on from
// the hash's home; slots stand in the order of their homes, so that a slot nearer
// to its own home ends the search.
func (b *base) byName(name string) (record, bool) {
	h := b.hash(name)
	size := b.slotSize()
	at := int(b.home(h)) * size //nolint:gosec // less than the length of slots
	for want := h<<8&hashMask | 1; want&0xff != 0 && at+tail <= len(b.slots); want, at = want+1, at+size {
		got := binary.LittleEndian.Uint64(b.slots[at:]) & hashMask
		if got == want {
			r, ok := b.slotRecord(at)
			runtime.KeepAlive(b)
			return r, ok
		}
		if got&0xff < want&0xff {
			break
		}
	}
	runtime.KeepAlive(b)
	return record{}, false
}

// slotRecord is what the slot at a byte says; false where a file lies.
func (b *base) slotRecord(at int) (record, bool) {
	says := little(b.slots, at+hashBytes, b.idBytes+b.codeBytes)
	code := says & (1<<(8*b.codeBytes) - 1)
	if code >= uint64(len(b.kinds)) {
		return record{}, false
	}
	return record{b.lowest + says>>(8*b.codeBytes), b.kinds[code]}, true
}

// byID is a tenant's record.
func (b *base) byID(id directory.TenantID) (record, bool) {
	r, ok := b.byNumber(uint64(id)) //nolint:gosec // ids are positive
	runtime.KeepAlive(b)
	return r, ok
}

func (b *base) byNumber(tenant uint64) (record, bool) {
	if tenant < b.lowest || b.rooms == 0 {
		return record{}, false
	}
	n := tenant - b.lowest
	i := start(mix(n>>perBlock), int(b.rooms)) //nolint:gosec // bounded by what was made
	for range b.rooms {
		block := b.blocks[i*blockSize:]
		switch binary.LittleEndian.Uint64(block) {
		case 0:
			return record{}, false
		case n>>perBlock + 1:
			taken := binary.LittleEndian.Uint64(block[8:])
			bit := uint64(1) << (n & inBlock)
			if taken&bit == 0 {
				return record{}, false
			}
			rank := int(binary.LittleEndian.Uint32(block[16:])) + bits.OnesCount64(taken&(bit-1))
			return b.ranked(tenant, rank)
		}
		i = after(i, int(b.rooms)) //nolint:gosec // as above
	}
	return record{}, false
}

// ranked is the record of a tenant by its rank; false where a file lies.
func (b *base) ranked(tenant uint64, rank int) (record, bool) {
	at := rank * b.codeBytes
	if at+tail > len(b.codes) {
		return record{}, false
	}
	code := little(b.codes, at, b.codeBytes)
	if code >= uint64(len(b.kinds)) {
		return record{}, false
	}
	return record{tenant, b.kinds[code]}, true
}

// little reads size bytes, at most eight, as an integer. There is room for eight.
func little(b []byte, at, size int) uint64 {
	return binary.LittleEndian.Uint64(b[at:]) & (1<<(8*size) - 1)
}

// all yields the tenants, by number.
func (b *base) all(yield func(record) bool) {
	type block struct {
		number, taken uint64
		rank          int
	}
	var blocks []block
	for i := range int(b.rooms) { //nolint:gosec // bounded by what was made
		e := b.blocks[i*blockSize:]
		if n := binary.LittleEndian.Uint64(e); n != 0 {
			blocks = append(blocks, block{n - 1, binary.LittleEndian.Uint64(e[8:]), int(binary.LittleEndian.Uint32(e[16:]))})
		}
	}
	slices.SortFunc(blocks, func(x, y block) int {
		if x.number < y.number {
			return -1
		}
		return 1
	})
	defer runtime.KeepAlive(b)
	for _, k := range blocks {
		rank := k.rank
		for taken := k.taken; taken != 0; taken &= taken - 1 {
			tenant := b.lowest + k.number<<perBlock + uint64(bits.TrailingZeros64(taken)) //nolint:gosec // below 64
			if r, ok := b.ranked(tenant, rank); ok && !yield(r) {
				return
			}
			rank++
		}
	}
}

// hashes yields the hash of each name, in order, with its tenant.
func (b *base) hashes() iter.Seq2[uint64, record] {
	return func(yield func(uint64, record) bool) {
		defer runtime.KeepAlive(b)
		size := b.slotSize()
		for at, place := 0, uint64(0); at+tail <= len(b.slots); at, place = at+size, place+1 {
			slot := binary.LittleEndian.Uint64(b.slots[at:])
			if slot&0xff == 0 || place < slot&0xff-1 {
				continue
			}
			if r, ok := b.slotRecord(at); ok && !yield(b.whole(place-(slot&0xff-1), slot>>8&lowMask), r) {
				return
			}
		}
	}
}

// whole is the hash that has this home and these low bits.
func (b *base) whole(home, low uint64) uint64 {
	if home >= b.span {
		return 0 // only in a file that lies
	}
	least, rest := bits.Div64(home, 0, b.span)
	if rest != 0 {
		least++ // the smallest hash with this home
	}
	h := least&^lowMask | low
	if h < least {
		h += 1 << lowBits
	}
	return h
}

func (b *base) bytes() int { return len(b.slots) + len(b.blocks) + len(b.codes) + 8*len(b.kinds) }

func (b *base) encodeHead() []byte {
	out := make([]byte, 0, baseHead+8*len(b.kinds))
	for _, n := range []uint64{
		b.key[0], b.key[1], b.lowest, b.span, b.rooms, uint64(b.tenants), uint64(b.names), uint64(len(b.slots)), //nolint:gosec // lengths
	} {
		out = binary.LittleEndian.AppendUint64(out, n)
	}
	out = append(out, byte(b.idBytes), byte(b.codeBytes))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b.kinds))) //nolint:gosec // codes have at most four bytes
	for _, k := range b.kinds {
		out = binary.LittleEndian.AppendUint64(out, k)
	}
	return out
}

// decodeBase makes a base of what encode wrote, in place. It checks what look-ups
// rely on; each slot and code they check themselves.
func decodeBase(r *reader, id [16]byte) (*base, error) {
	b := &base{id: id, key: [2]uint64{r.uint64(), r.uint64()}, lowest: r.uint64(), span: r.uint64(), rooms: r.uint64()}
	tenants, names, size := r.uint64(), r.uint64(), r.uint64()
	b.idBytes, b.codeBytes = r.uint8(), r.uint8()
	kinds := r.uint32()
	left := uint64(len(r.b))
	if r.short || tenants > left || names > left || size > left || b.rooms > left/blockSize || uint64(kinds) > left/8 ||
		b.span > left || b.span < fewest || b.idBytes < 1 || b.idBytes > 8 || b.codeBytes < 1 || b.idBytes+b.codeBytes > 8 {
		return nil, broken("its base's head")
	}
	b.tenants, b.names = int(tenants), int(names) //nolint:gosec // less than the file
	for range kinds {
		b.kinds = append(b.kinds, r.uint64())
	}
	b.slots = r.take(int(size))                    //nolint:gosec // as above
	b.blocks = r.take(int(b.rooms) * blockSize)    //nolint:gosec // as above
	b.codes = r.take(b.tenants*b.codeBytes + tail) //
	if r.short {
		return nil, broken("its base's length")
	}
	return b, nil
}
