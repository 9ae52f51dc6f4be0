package peers

import (
	"bytes"
	"errors"
	"strconv"
)

// A framing reads HTTP/1.1 messages one after the other and keeps nothing of
// their bodies. It is lenient: what it reads comes from the proxies under test.
type framing struct {
	first []byte // the first line of the message
	head  []byte // of a head that came in pieces
	line  []byte // of a chunk's size that came in pieces
	left  int64  // bytes of the body, or of the chunk with its line end
	where place
}

type place int

const (
	inHead place = iota
	inBody
	inSize
	inChunk
	inTrailer
)

const maxHead = 64 << 10

var errHead = errors.New("not an HTTP/1.1 message")

// feed takes bytes. It returns what is behind the end of a message, and whether
// there was an end.
func (f *framing) feed(b []byte) (rest []byte, whole bool, err error) {
	for len(b) > 0 {
		switch f.where {
		case inHead:
			head, after, ok := f.cut(b)
			switch {
			case !ok && len(f.head) > maxHead:
				return nil, false, errHead
			case !ok:
				return nil, false, nil
			}
			b = after
			if err := f.begin(head); err != nil {
				return nil, false, err
			}
			if f.where == inBody && f.left == 0 {
				f.where = inHead
				return b, true, nil
			}
		case inBody, inChunk:
			n := min(f.left, int64(len(b)))
			b, f.left = b[n:], f.left-n
			switch {
			case f.left > 0:
			case f.where == inChunk:
				f.where = inSize
			default:
				f.where = inHead
				return b, true, nil
			}
		case inSize, inTrailer:
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				f.line = append(f.line, b...)
				return nil, false, nil
			}
			f.line = append(f.line, b[:i]...)
			b = b[i+1:]
			line := bytes.TrimSuffix(f.line, []byte("\r"))
			f.line = f.line[:0]
			if f.where == inTrailer {
				if len(line) == 0 {
					f.where = inHead
					return b, true, nil
				}
				continue
			}
			size, _, _ := bytes.Cut(line, []byte(";"))
			n, err := strconv.ParseInt(string(bytes.TrimSpace(size)), 16, 64)
			if err != nil || n < 0 {
				return nil, false, errHead
			}
			f.left, f.where = n+2, inChunk
			if n == 0 {
				f.where = inTrailer
			}
		}
	}
	return nil, false, nil
}

// cut separates the head, which is copied only where it came in pieces.
func (f *framing) cut(b []byte) (head, after []byte, ok bool) {
	end := []byte("\r\n\r\n")
	if len(f.head) == 0 {
		if i := bytes.Index(b, end); i >= 0 {
			return b[:i+2], b[i+4:], true
		}
		f.head = append(f.head, b...)
		return nil, nil, false
	}
	had := len(f.head)
	f.head = append(f.head, b...)
	i := bytes.Index(f.head[max(0, had-3):], end)
	if i < 0 {
		return nil, nil, false
	}
	i += max(0, had-3)
	head, after = f.head[:i+2], b[i+4-had:]
	f.head = f.head[:0]
	return head, after, true
}

// begin reads a head: its first line and how long the body is.
func (f *framing) begin(head []byte) error {
	line, fields, ok := bytes.Cut(head, []byte("\r\n"))
	if !ok {
		return errHead
	}
	f.first, f.left, f.where = append(f.first[:0], line...), 0, inBody
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			if err != nil {
				return errHead
			}
			f.left = n
		case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")):
			f.where = inSize
		}
	}
	return nil
}

// target is the second word of a request's first line: its path.
func (f *framing) target() []byte {
	_, rest, _ := bytes.Cut(f.first, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	return path
}

// ok reports whether a response's status is 200.
func (f *framing) ok() bool { return bytes.HasPrefix(f.first, []byte("HTTP/1.1 200")) }
