package h1

import (
	"net/http"
	"strconv"
)

// AppendField appends one field line. Name and value must be ones that were
// parsed, or that Sendable took.
func AppendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...)
}

// Sendable reports whether a name and a value that were not parsed may be a
// field: with anything else they could be the end of one.
func Sendable(name, value string) bool {
	return all(name, isToken) && (value == "" || all(value, isValue))
}

// AppendRequestLine appends the first line of a request in HTTP/1.1, and its Host.
func AppendRequestLine(dst []byte, method, target, host string) []byte {
	dst = append(append(dst, method...), ' ')
	dst = append(append(dst, target...), " HTTP/1.1\r\nHost: "...)
	return append(append(dst, host...), "\r\n"...)
}

// AppendStatusLine appends the first line of an answer in HTTP/1.1, with the
// reason that belongs to the status.
func AppendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(strconv.AppendInt(dst, int64(status), 10), ' ')
	return append(append(dst, http.StatusText(status)...), "\r\n"...)
}

// AppendLength appends the field that says how long a body is. UntilClose has none.
func AppendLength(dst []byte, n Length) []byte {
	switch {
	case n == Chunked:
		return append(dst, "Transfer-Encoding: chunked\r\n"...)
	case n >= 0:
		dst = append(dst, "Content-Length: "...)
		return append(strconv.AppendInt(dst, int64(n), 10), "\r\n"...)
	}
	return dst
}

// AppendPassedOn appends the fields of h that are for the next one that reads
// the message, but for those that drop names.
func (h *Head) AppendPassedOn(dst []byte, drop func(name string) bool) []byte {
	for i := range h.count {
		if h.fields[i].hop {
			continue
		}
		name := h.Name(i)
		if drop == nil || !drop(name) {
			dst = AppendField(dst, name, h.Value(i))
		}
	}
	return dst
}

// A Framer puts the framing onto a body. It holds who writes to the length that
// was announced.
type Framer struct {
	length Length
	left   int64
}

// Begin makes f ready for a body of length n.
func (f *Framer) Begin(n Length) { *f = Framer{n, max(0, int64(n))} }

// Before appends what comes before the next n > 0 bytes of body. It is false
// where they are more than was announced: they must not be sent.
func (f *Framer) Before(dst []byte, n int) ([]byte, bool) {
	switch f.length {
	case Chunked:
		return append(strconv.AppendInt(dst, int64(n), 16), "\r\n"...), true
	case UntilClose:
		return dst, true
	}
	if f.left -= int64(n); f.left < 0 {
		return dst, false
	}
	return dst, true
}

// After appends what comes after bytes of body.
func (f *Framer) After(dst []byte) []byte {
	if f.length == Chunked {
		return append(dst, "\r\n"...)
	}
	return dst
}

// End appends the end of the body; trailer is field lines, or nothing. It is
// false where the body is shorter than was announced: its reader must not take
// what follows for the rest.
func (f *Framer) End(dst, trailer []byte) ([]byte, bool) {
	if f.length != Chunked {
		return dst, f.left == 0
	}
	dst = append(append(dst, "0\r\n"...), trailer...)
	return append(dst, "\r\n"...), true
}

// Whole reports whether nothing of an announced length is missing.
func (f *Framer) Whole() bool { return f.length >= 0 && f.left == 0 }
