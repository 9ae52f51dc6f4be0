package table

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"io"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// The file is a head, the cells, the segments newest first, and the SHA-256 of
// all of that. Integers are little-endian. Nothing in it depends on this
// process: indexes are built when it is read, every record and name is checked.
const (
	magic      = "CELLWAYT"
	fileFormat = 1
	headSize   = len(magic) + 4 + 8 + 8 + 4 + 4 // magic, format, size, version, cells, segments
	segHead    = 4 + 4 + 4                      // tenants, names, bytes of entries
)

// encode writes v. The size of the file is in its head, so that a file that was
// cut short says so.
func (v *View) encode(w io.Writer) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	size := headSize + sha256.Size
	for _, c := range v.cells {
		size += 4 + len(c.ID) + len(c.State) + len(c.Address)
	}
	for _, s := range v.segments {
		size += segHead + len(s.entries)
	}
	b := append(make([]byte, 0, 64<<10), magic...)
	b = binary.LittleEndian.AppendUint32(b, fileFormat)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.version)) //nolint:gosec // versions are not negative
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.cells)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.segments)))
	for _, c := range v.cells {
		b = appendText(b, string(c.ID))
		b = appendText(b, string(c.State))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Address))) //nolint:gosec // bounded by mergeCells
		b = append(b, c.Address...)
	}
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
	if _, err := out.Write(b); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// decode reads what encode wrote. Anything else is Invalid, with a sentence
// that says what is wrong with the file.
func decode(file []byte, seed maphash.Seed) (*View, error) {
	body, err := checkFrame(file)
	if err != nil {
		return nil, err
	}
	r := reader{b: body[len(magic)+4+8:]}
	v := &View{seed: seed, source: FromDisk, replaced: make(chan struct{}), version: directory.Version(r.uint64())} //nolint:gosec // checked below
	cells, segments := r.uint32(), r.uint32()
	if v.version < 0 || cells > maxCells {
		return nil, broken("its head")
	}
	for range cells {
		c := directory.CellRoute{ID: directory.CellID(r.take(r.uint8())), State: directory.CellState(r.take(r.uint8()))}
		c.Address = string(r.take(r.uint16()))
		v.cells = append(v.cells, c)
	}
	for range segments {
		s, err := decodeSegment(&r, seed, len(v.cells))
		if err != nil {
			return nil, err
		}
		v.segments = append(v.segments, s)
	}
	if r.short || len(r.b) != 0 {
		return nil, broken("its length")
	}
	v.tenants = v.countTenants()
	return v, nil
}

// checkFrame checks magic, format, size and checksum and gives all but the sum.
func checkFrame(file []byte) ([]byte, error) {
	if len(file) < headSize+sha256.Size || string(file[:len(magic)]) != magic {
		return nil, problem.New(problem.Invalid, "not a table file, or cut off within its head (%d bytes)", len(file))
	}
	head := reader{b: file[len(magic):]}
	if format := head.uint32(); format != fileFormat {
		return nil, problem.New(problem.Invalid, "table file of format %d; this router reads format %d", format, fileFormat)
	}
	if size := head.uint64(); size != uint64(len(file)) {
		return nil, problem.New(problem.Invalid, "table file has %d bytes, its head says %d", len(file), size)
	}
	body, want := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], want) {
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

// countTenants counts a tenant once, however many segments know it.
func (v *View) countTenants() int {
	n := 0
	for i, s := range v.segments {
		if len(v.segments) == 1 {
			return s.tenants
		}
		for r := range s.each {
			hidden := false
			for _, newer := range v.segments[:i] {
				_, known := newer.byID(r.id())
				hidden = hidden || known
			}
			if !hidden {
				n++
			}
		}
	}
	return n
}

func broken(part string) error {
	return problem.New(problem.Invalid, "table file's checksum matches, but %s is not valid", part)
}

// A reader takes integers off the front. Past the end it gives zeros and is short.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.short = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint8() int {
	if b := r.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
