package transfer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/cellway/cellway/infra/problem"
)

// The stream of one round is a sequence of frames: a type byte, the length of the
// payload as four bytes, big endian, and the payload. A stream without its last
// frame was cut short and counts for nothing.
const (
	frameRound byte = 'R' // Header, JSON; the first frame
	frameTable byte = 'T' // tableHead, JSON; starts a table
	frameKeys  byte = 'K' // JSON array of keys whose rows the target deletes first
	frameData  byte = 'D' // a piece of COPY data
	frameEnd   byte = 'E' // Digest of the table's rows, JSON; ends a table
	frameLast  byte = 'L' // Totals, JSON; the last frame
)

// maxFrame bounds what a reader takes at once.
const maxFrame = 1 << 20

// chunk is the size of a data frame; keysPerFrame and keysBytes bound one of keys, of
// which a single longer one has a frame of its own.
const (
	chunk        = 64 << 10
	keysPerFrame = 5000
	keysBytes    = fewBytes
)

// A Header says what a stream brings: the rows that changed after snapshot Since
// (all rows where Since is ""), as they were at Snapshot.
type Header struct {
	Move     string `json:"move"`
	Tenant   int64  `json:"tenant"`
	Since    string `json:"since"`
	Snapshot string `json:"snapshot"`
	Frozen   bool   `json:"frozen,omitempty"` // the tenant was frozen for the move at Snapshot: it will not change

	Migrations string `json:"migrations,omitempty"` // where Frozen: what the source has, by applied; one of an older release does not tell
}

type tableHead struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Format  string   `json:"format"`
	Types   string   `json:"types,omitempty"` // Table.Types; a source of an older release does not tell

	Given map[string]int64 `json:"given,omitempty"` // Table.given, as Types
}

// Totals count what a stream brought.
type Totals struct {
	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
	Keys   int64 `json:"keys"`
	Bytes  int64 `json:"bytes"` // of COPY data
}

// A frameWriter writes frames; as an io.Writer it writes data frames.
type frameWriter struct {
	w     *bufio.Writer
	bytes int64
	pace  *toll
}

func newFrameWriter(w io.Writer, pace *toll) *frameWriter {
	return &frameWriter{w: bufio.NewWriterSize(w, chunk), pace: pace}
}

func (f *frameWriter) frame(kind byte, payload []byte) error {
	if kind == frameKeys && len(payload) > maxFrame { // who reads it would refuse it
		return problem.New(problem.Conflict, "a key of %d bytes is too long to be moved", len(payload))
	}
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := f.w.Write(head[:]); err != nil {
		return err
	}
	_, err := f.w.Write(payload)
	return err
}

func (f *frameWriter) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.frame(kind, b)
}

// A keyBatch is the keys of one frame, as a JSON array. They are written as they came:
// encoding/json would write some signs longer than Postgres does.
type keyBatch struct {
	b []byte
	n int
}

// takes reports whether the frame has room for one more.
func (k *keyBatch) takes(key []byte) bool {
	return k.n == 0 || k.n < keysPerFrame && len(k.b)+len(key)+2 <= keysBytes
}

func (k *keyBatch) add(key []byte) {
	sep := byte(',')
	if k.n == 0 {
		sep = '['
	}
	k.b, k.n = append(append(k.b, sep), key...), k.n+1
}

// array is the keys that were added.
func (k *keyBatch) array() []byte {
	if k.n == 0 {
		return []byte("[]")
	}
	return append(k.b, ']')
}

// send sends the keys, if there are any, and begins anew.
func (k *keyBatch) send(f *frameWriter) error {
	if k.n == 0 {
		return nil
	}
	frame := k.array()
	k.b, k.n = k.b[:0], 0
	return f.frame(frameKeys, frame)
}

// jsonArray is keys as one JSON array.
func jsonArray(keys []json.RawMessage) []byte {
	var all keyBatch
	for _, k := range keys {
		all.add(k)
	}
	return all.array()
}

// Write sends b, which is a row as COPY writes it in text form, as data frames.
func (f *frameWriter) Write(b []byte) (int, error) { return f.rows(b, 1) }

// rows sends b, in which so many rows are, as data frames.
func (f *frameWriter) rows(b []byte, rows int) (int, error) {
	done := 0
	for len(b) > 0 {
		n := min(len(b), chunk)
		if err := f.pace.take(rows, n); err != nil {
			return done, err
		}
		rows = 0
		if err := f.frame(frameData, b[:n]); err != nil {
			return done, err
		}
		f.bytes += int64(n)
		done += n
		b = b[n:]
	}
	return done, nil
}

// A frameReader reads frames one at a time; the payload is valid until the next.
type frameReader struct {
	r    *bufio.Reader
	buf  []byte
	kind byte
	held bool       // the current frame has not been consumed
	rows rowCounter // of the table that is read
	pace *toll
	came *arrival // of the round
}

func newFrameReader(r io.Reader, pace *toll) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, chunk), pace: pace}
}

var errCut = problem.New(problem.Unavailable, "the stream of rows was cut short")

// next returns the next frame.
func (f *frameReader) next() (byte, []byte, error) {
	if f.held {
		f.held = false
		return f.kind, f.buf, nil
	}
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, errCut
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, problem.New(problem.Invalid, "frame of %d bytes in a stream of rows", n)
	}
	if cap(f.buf) < int(n) {
		f.buf = make([]byte, n)
	}
	f.buf, f.kind = f.buf[:n], head[0]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return 0, nil, errCut
	}
	return f.kind, f.buf, nil
}

// take waits until a data frame may be taken.
func (f *frameReader) take(data []byte) error {
	rows := 0
	if f.came != nil || f.pace.counts() {
		rows = f.rows.in(data)
	}
	f.came.add(rows, len(data))
	return f.pace.take(rows, min(len(data), chunk))
}

// unread makes next return the current frame again.
func (f *frameReader) unread() { f.held = true }

// expect reads a frame of a kind into v.
func (f *frameReader) expect(kind byte, v any) error {
	got, payload, err := f.next()
	if err != nil {
		return err
	}
	if got != kind {
		return problem.New(problem.Invalid, "frame %q in a stream of rows where %q belongs", got, kind)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("read frame %q: %w", kind, err)
	}
	return nil
}

// A dataReader reads the payload of consecutive data frames, up to another frame.
type dataReader struct {
	f    *frameReader
	rest []byte
}

func (d *dataReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		kind, payload, err := d.f.next()
		if err != nil {
			return 0, err
		}
		if kind != frameData {
			d.f.unread()
			return 0, io.EOF
		}
		if err := d.f.take(payload); err != nil {
			return 0, err
		}
		d.rest = payload
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
