package h1

import "bytes"

// A Body takes the framing off a body. Begin it with the length that the head
// says; it does not copy what it reads.
type Body struct {
	limits   Limits
	length   Length
	left     int64 // of the body, or of the chunk
	state    chunkState
	digits   int    // of the size under way
	line     int    // bytes of the size line under way
	blank    int    // bytes of extensions so far
	seen     int    // of the trailer line under way
	trailing int    // bytes of the trailer section
	count    int    // of trailer fields
	keep     bool   // trailer fields are kept
	trailer  []byte // "Name: value" CRLF of each
	done     bool
}

type chunkState uint8

const (
	atSize      chunkState = iota // before the first digit
	inSize                        // after a digit
	inExtension                   // after ";"
	afterSize                     // after the CR of a size line
	inData
	afterData // before the CR that ends a chunk's data
	atDataLF  // before its LF
	inTrailer
)

// Begin makes b ready for a body of length n. keep says whether trailer fields
// are kept.
func (b *Body) Begin(n Length, l Limits, keep bool) {
	*b = Body{limits: l.orDefaults(), length: n, keep: keep, trailer: b.trailer[:0]}
	if n >= 0 {
		b.left, b.done = int64(n), n == 0
	}
}

// Done reports whether the body is over.
func (b *Body) Done() bool { return b.done }

// Left is how many bytes of body are known to be to come.
func (b *Body) Left() int64 {
	if b.done {
		return 0
	}
	return b.left
}

// Trailer is the trailer fields that were kept, as lines, once the body is over.
func (b *Body) Trailer() []byte { return b.trailer }

// Next takes the next part of the body from in: data, which is a part of in,
// is body; n is how many bytes of in it used, framing included. What it has not
// used the caller gives again, followed by more. It uses nothing after the
// body's end.
func (b *Body) Next(in []byte) (data []byte, n int, f Fault) {
	switch {
	case b.done:
		return nil, 0, None
	case b.length == UntilClose:
		return in, len(in), None
	case b.length == Chunked:
		return b.nextChunked(in)
	}
	data = b.take(in)
	b.done = b.left == 0
	return data, len(data), None
}

// take is what of in belongs to the body or chunk under way.
func (b *Body) take(in []byte) []byte {
	data := in[:min(int64(len(in)), b.left)]
	b.left -= int64(len(data))
	return data
}

// Closed tells b that no more bytes come.
func (b *Body) Closed() Fault {
	if b.length == UntilClose {
		b.done = true
	}
	if !b.done {
		return CutShort
	}
	return None
}

func (b *Body) nextChunked(in []byte) (data []byte, n int, f Fault) {
	for n < len(in) && !b.done {
		switch b.state {
		case inData:
			data = b.take(in[n:])
			if b.left == 0 {
				b.state = afterData
			}
			return data, n + len(data), None
		case inTrailer:
			used, f := b.trailerLine(in[n:])
			n += used
			if f != None || used == 0 {
				return nil, n, f
			}
		default:
			if f := b.framing(in[n]); f != None {
				return nil, n, f
			}
			n++
		}
	}
	return nil, n, None
}

// framing takes one byte that is neither data nor trailer.
func (b *Body) framing(c byte) Fault {
	switch b.state {
	case afterData:
		if c != '\r' {
			return BadChunk
		}
		b.state = atDataLF
		return None
	case atDataLF:
		if c != '\n' {
			return BadChunk
		}
		b.state = atSize
		return None
	case afterSize:
		if c != '\n' {
			return BadChunk
		}
		b.afterSize()
		return None
	}
	if b.line++; b.line > maxSizeLine {
		return ChunkTooLong
	}
	if b.state == inExtension {
		return b.extension(c)
	}
	return b.size(c)
}

func (b *Body) size(c byte) Fault {
	switch {
	case class[c]&isHex != 0:
		if b.digits++; b.digits > maxSize {
			return ChunkTooLong
		}
		b.left = b.left<<4 | int64(hex(c))
		b.state = inSize
	case b.state != inSize:
		return BadChunk
	case c == ';':
		b.state = inExtension
	case c == '\r':
		b.state = afterSize
	default:
		return BadChunk
	}
	return None
}

// extension skips what we and most others ignore, as long as it cannot be taken
// for the end of a line.
func (b *Body) extension(c byte) Fault {
	switch {
	case c == '\r':
		b.state = afterSize
	case class[c]&isValue == 0:
		return BadChunk
	default:
		if b.blank++; b.blank > maxBlank {
			return ChunkTooLong
		}
	}
	return None
}

func (b *Body) afterSize() {
	b.digits, b.line = 0, 0
	b.state = inData
	if b.left == 0 {
		b.state = inTrailer
	}
}

func hex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return fold[c] - 'a' + 10
}

// trailerLine takes one line of the trailer section; 0 where it is not all there.
func (b *Body) trailerLine(in []byte) (int, Fault) {
	upto := min(len(in), b.limits.Trailer-b.trailing)
	i := bytes.IndexByte(in[b.seen:upto], '\n')
	if i < 0 {
		b.seen = upto
		if upto < len(in) || b.trailing+upto == b.limits.Trailer {
			return 0, TrailerTooLarge
		}
		return 0, None
	}
	end := b.seen + i
	if end == 0 || in[end-1] != '\r' {
		return 0, BareLF
	}
	b.seen = 0
	b.trailing += end + 1
	if end == 1 {
		b.done = true
		return end + 1, None
	}
	if b.count++; b.count > b.limits.Fields {
		return 0, TooManyFields
	}
	return end + 1, b.trailerField(in[:end-1])
}

// trailerField refuses fields that change what a message means: they come too late.
func (b *Body) trailerField(line []byte) Fault {
	name, value, f := splitField(line, span{0, uint32(len(line))}) //nolint:gosec // at most Limits.Trailer
	if f != None {
		return f
	}
	if k, twin := classify(name.in(line)); twin || k.hop() || k.vital() {
		return BadTrailer
	}
	if b.keep {
		b.trailer = append(append(b.trailer, name.in(line)...), ": "...)
		b.trailer = append(append(b.trailer, value.in(line)...), "\r\n"...)
	}
	return None
}
