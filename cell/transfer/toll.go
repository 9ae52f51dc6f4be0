package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
)

// A toll is how one stream takes what it may. A nil one bounds nothing.
type toll struct {
	ctx  context.Context
	p    *Pace
	owed int // bytes that have gone and were not waited for yet
}

// pacing waits for the pace, except inside a pause, until end.
func pacing(ctx context.Context, p *Pace, pausing bool) (take *toll, end func()) {
	if p == nil || pausing {
		return nil, func() {}
	}
	return &toll{ctx: ctx, p: p}, p.begin()
}

// take waits until so many more rows, and bytes, may go. Few bytes wait together: a table of a
// few rows would else stand behind the large pieces of other moves with each of its frames.
func (t *toll) take(rows, n int) error {
	if t == nil {
		return nil
	}
	t.p.moved.Add(int64(n))
	for t.p.rows != nil && rows > 0 {
		some := min(rows, t.p.rows.Burst())
		if err := t.p.rows.WaitN(t.ctx, some); err != nil {
			return err
		}
		rows -= some
	}
	if t.owed += n; t.owed < paceLump {
		return nil
	}
	n, t.owed = t.owed, 0
	return t.p.bytes.WaitN(t.ctx, n)
}

// counts reports whether rows are bounded, so that they have to be counted.
func (t *toll) counts() bool { return t != nil && t.p.rows != nil }

// piece is how many rows may go together.
func (t *toll) piece() int {
	if !t.counts() {
		return math.MaxInt
	}
	return t.p.rows.Burst()
}

// A rowCounter counts the rows of COPY data that comes in pieces of any size. Of data that is
// malformed it counts something; COPY refuses it.
type rowCounter struct {
	binary bool
	skip   int // bytes up to the next number: COPY's head, a value
	fields int // that are still to come of a row
	have   int // bytes of
	number [4]byte
}

// countRows counts the rows of the table's data, from its beginning.
func countRows(t Table) rowCounter { return rowCounter{binary: t.Binary, skip: len(copyHead)} }

// in is how many rows begin in the next piece, or, of the text form, end in it.
func (c *rowCounter) in(b []byte) (rows int) {
	if !c.binary {
		return bytes.Count(b, []byte{'\n'})
	}
	for len(b) > 0 {
		if n := min(c.skip, len(b)); n > 0 {
			b, c.skip = b[n:], c.skip-n
			continue
		}
		size := 4 // of a value's length
		if c.fields == 0 {
			size = 2 // of a row's number of values
		}
		n := copy(c.number[c.have:size], b)
		if b, c.have = b[n:], c.have+n; c.have < size {
			break
		}
		c.have = 0
		if c.fields > 0 {
			c.fields, c.skip = c.fields-1, max(0, int(int32(binary.BigEndian.Uint32(c.number[:]))))
		} else if c.fields = max(0, int(int16(binary.BigEndian.Uint16(c.number[:])))); c.fields > 0 { // else it is COPY's tail
			rows++
		}
	}
	return rows
}
