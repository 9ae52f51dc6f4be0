package table

import (
	"encoding/binary"
	"hash/maphash"
	"io"
	"runtime"

	"github.com/cespare/xxhash/v2"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// The file is a head, the cells, the segments newest first, the base, and the
// checksum of all of that. Integers are little-endian. The base is used as it
// stands in the file; of segments the indexes are built when it is read. A file of
// changes has no base and names the one that it belongs on.
const (
	magic      = "CELLWAYT"
	fileFormat = 2
	sumSize    = 8
	headSize   = len(magic) + 4 + 8 + 8 + 32 + 16 + 1 + 4 + 4 // magic, format, size, version, chain, base's id, base?, cells, segments
	segHead    = 4 + 4 + 4                                    // tenants, names, bytes of entries
	baseHead   = 16 + 8*6 + 2 + 4                             // key, lowest, span, rooms, tenants, names, bytes of slots, widths, kinds
)

// encode writes v, without its base where that is in another file. owner says
// whose table it is. The size of the file is in its head, so that a file that was
// cut short says so.
func (v *View) encode(w io.Writer, owner string, withBase bool) error {
	sum := xxhash.New()
	out := io.MultiWriter(w, sum)
	b := v.encodeHead(owner, withBase)
	for _, s := range v.segments {
		b = binary.LittleEndian.AppendUint32(b, uint32(s.tenants))      //nolint:gosec // fewer than bytes of entries
		b = binary.LittleEndian.AppendUint32(b, uint32(s.names))        //nolint:gosec // as above
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s.entries))) //nolint:gosec // bounded by add
		for _, part := range [][]byte{b, s.entries} {
			if _, err := out.Write(part); err != nil {
				return err
			}
		}
		b = b[:0]
	}
	parts := [][]byte{b}
	if withBase && v.base != nil {
		parts = append(parts, v.base.encodeHead(), v.base.slots, v.base.blocks, v.base.codes)
	}
	for _, part := range parts {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	runtime.KeepAlive(v.base)
	_, err := w.Write(binary.LittleEndian.AppendUint64(nil, sum.Sum64()))
	return err
}

func (v *View) encodeHead(owner string, withBase bool) []byte {
	size := headSize + 1 + len(owner) + sumSize
	for _, c := range v.cells {
		size += 4 + len(c.ID) + len(c.State) + len(c.Address)
	}
	for _, s := range v.segments {
		size += segHead + len(s.entries)
	}
	var id [16]byte
	var has byte
	if v.base != nil {
		id = v.base.id
	}
	if withBase && v.base != nil {
		has = 1
		size += baseHead + v.base.bytes()
	}
	b := append(make([]byte, 0, 64<<10), magic...)
	b = binary.LittleEndian.AppendUint32(b, fileFormat)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.version)) //nolint:gosec // versions are not negative
	b = append(append(append(b, v.chain[:]...), id[:]...), has)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.cells)))    //nolint:gosec // bounded by mergeCells
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.segments))) //nolint:gosec // a dozen
	b = appendText(b, owner)
	for _, c := range v.cells {
		b = appendText(b, string(c.ID))
		b = appendText(b, string(c.State))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Address))) //nolint:gosec // bounded by mergeCells
		b = append(b, c.Address...)
	}
	return b
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// decode reads what encode wrote. Anything else is Invalid, with a sentence that
// says what is wrong with the file. The view's base, if it has one, lies in file.
func decode(file []byte, owner string, seed maphash.Seed) (v *View, baseID [16]byte, err error) {
	body, err := checkFrame(file)
	if err != nil {
		return nil, baseID, err
	}
	r := reader{b: body[len(magic)+4+8:]}
	v = &View{seed: seed, source: FromDisk, replaced: make(chan struct{}), version: directory.Version(r.uint64())} //nolint:gosec // checked below
	copy(v.chain[:], r.take(len(v.chain)))
	copy(baseID[:], r.take(len(baseID)))
	has, cells, segments := r.uint8(), r.uint32(), r.uint32()
	if v.version < 0 || cells > maxCells || has > 1 {
		return nil, baseID, broken("its head")
	}
	if whose := string(r.take(r.uint8())); whose != owner {
		return nil, baseID, problem.New(problem.Invalid, "table file of %q; this router is of %q", whose, owner)
	}
	for range cells {
		c := directory.CellRoute{ID: directory.CellID(r.take(r.uint8())), State: directory.CellState(r.take(r.uint8()))}
		c.Address = string(r.take(r.uint16()))
		v.cells = append(v.cells, c)
	}
	for range segments {
		s, err := decodeSegment(&r, seed, len(v.cells))
		if err != nil {
			return nil, baseID, err
		}
		v.segments = append(v.segments, s)
	}
	if has == 1 {
		if v.base, err = decodeBase(&r, baseID); err != nil {
			return nil, baseID, err
		}
	}
	if r.short || len(r.b) != 0 {
		return nil, baseID, broken("its length")
	}
	v.tenants = v.countTenants()
	return v, baseID, nil
}

// checkFrame checks magic, format, size and checksum and gives all but the sum.
func checkFrame(file []byte) ([]byte, error) {
	if len(file) < headSize+sumSize || string(file[:len(magic)]) != magic {
		return nil, problem.New(problem.Invalid, "not a table file, or cut off within its head (%d bytes)", len(file))
	}
	head := reader{b: file[len(magic):]}
	if format := head.uint32(); format != fileFormat {
		return nil, problem.New(problem.Invalid, "table file of format %d; this router reads format %d", format, fileFormat)
	}
	if size := head.uint64(); size != uint64(len(file)) {
		return nil, problem.New(problem.Invalid, "table file has %d bytes, its head says %d", len(file), size)
	}
	body, want := file[:len(file)-sumSize], binary.LittleEndian.Uint64(file[len(file)-sumSize:])
	if xxhash.Sum64(body) != want {
		return nil, problem.New(problem.Invalid, "table file's checksum does not match its contents")
	}
	return body, nil
}

func decodeSegment(r *reader, seed maphash.Seed, cells int) (*segment, error) {
	tenants, names, size := int(r.uint32()), int(r.uint32()), int(r.uint32())
	in := reader{b: r.take(size)}
	// Every tenant and name takes bytes, so a head that lies cannot make us
	// allocate more than a few times the file.
	if r.short || tenants > size/recordSize || names > size {
		return nil, broken("a segment's length")
	}
	s := sized(tenants, names, size)
	for len(in.b) > 0 {
		rec := record{in.uint64(), in.uint64()}
		if in.short || !rec.valid(cells) || s.tenants == tenants || !s.begin(rec) {
			return nil, broken("a placement")
		}
		for n := in.uint8(); n != 0; n = in.uint8() {
			name := in.take(n)
			if in.short || s.names == names || s.add(seed, name) != nil {
				return nil, broken("a name")
			}
		}
		s.end()
	}
	if in.short || s.tenants != tenants || s.names != names {
		return nil, broken("a segment's length")
	}
	return s, nil
}

// countTenants counts a tenant once, however often the view has it.
func (v *View) countTenants() int {
	n := 0
	if v.base != nil {
		n = v.base.tenants
	}
	for i, s := range v.segments {
		for r := range s.each {
			packed := false
			if v.base != nil {
				_, packed = v.base.byID(r.id())
			}
			if !packed && !v.hiddenBefore(i, r.id()) {
				n++
			}
		}
	}
	return n
}

func broken(part string) error {
	return problem.New(problem.Invalid, "table file's checksum matches, but %s is not valid", part)
}
