package h1

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
)

// Check reports what is wrong with a request that another server than ours has
// read, such as net/http's of HTTP/2. What one part of it could do to the head
// that a cell gets (a line's end, a colon or a space in a name, a coding, a twin
// of a field of framing) is a Fault here, as it would be over HTTP/1.1; then the
// head is written, and read with our own parser.
func Check(r *http.Request, l Limits) Fault {
	if f := checkParts(r); f != None {
		return f
	}
	for name, values := range r.Header {
		switch k, twin := classify(name); {
		case twin:
			return TwinName
		case k == contentLength && len(values) > 1:
			return TwoLengths
		case k == contentLength:
			if _, ok := parseLength([]byte(values[0])); !ok {
				return BadLength
			}
		case k.hop() && k != te && k != trailer && k != expect && k != host:
			return BadConnection // HTTP/2 has no such fields
		}
	}
	c := checks.Get().(*checking)
	c.q.Begin(l)
	c.head = append(appendForeign(c.head[:0], r, nil), "\r\n"...)
	n, f := c.q.Parse(c.head)
	if f == None && n != len(c.head) {
		f = HeadTooLarge // cannot be: no part has a line's end in it
	}
	if cap(c.head) <= 4<<10 { // larger ones are rare
		checks.Put(c)
	}
	return f
}

// A checking is what Check reads with: kilobytes, for which the stack of a request's goroutine would have to grow.
type checking struct {
	q    Request
	head []byte
}

var checks = sync.Pool{New: func() any { return &checking{head: make([]byte, 0, 1024)} }}

// checkParts reports a part of a head that would not stay that part in it.
func checkParts(r *http.Request) Fault {
	target := targetOf(r)
	switch {
	case r.Method == "" || !all(r.Method, isToken):
		return BadMethod
	case !all(target, isTarget), target[0] != '/' && target != "*" && r.Method != http.MethodConnect: // an absolute one would reach the cell as it is (RFC 9113, 8.3.1)
		return BadTarget
	case !validHost([]byte(r.Host)):
		return BadHost
	}
	for name, values := range r.Header {
		if !all(name, isToken) {
			return BadName
		}
		for _, v := range values {
			if v != "" && !all(v, isValue) {
				return BadValue
			}
		}
	}
	return None
}

func targetOf(r *http.Request) string {
	if r.RequestURI == "" {
		return r.URL.RequestURI()
	}
	return r.RequestURI
}

// appendForeign appends the request line and the fields that are the client's to
// choose, without the head's end. A nil o changes nothing.
func appendForeign(dst []byte, r *http.Request, o *Outgoing) []byte {
	dst = AppendRequestLine(dst, r.Method, targetOf(r), r.Host)
	for name, values := range r.Header {
		if k, _ := classify(name); k.hop() || o != nil && (o.Drop != nil && o.Drop(name) || o.sets(name)) {
			continue
		}
		if strings.EqualFold(name, "Cookie") && len(values) > 1 { // HTTP/2 may cut a cookie field into crumbs
			dst = AppendField(dst, name, strings.Join(values, "; "))
			continue
		}
		for _, v := range values {
			dst = AppendField(dst, name, v)
		}
	}
	return dst
}

func (o *Outgoing) sets(name string) bool {
	for i := range o.Fields {
		if strings.EqualFold(o.Fields[i].Name, name) {
			return true
		}
	}
	return false
}

// Strict refuses requests of another server's that Check finds wrong, before next
// sees them; refused is told and says what their sender reads.
func Strict(next http.Handler, l Limits, refused func(f Fault, path string, header http.Header) (body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := Check(r, l)
		if f == None {
			next.ServeHTTP(w, r)
			return
		}
		body := refused(f, r.URL.Path, w.Header())
		w.WriteHeader(f.Status())
		_, _ = w.Write(body) // a client that has left is nobody's loss
	})
}

// FaultOf is what is wrong with the request of whose body err was read, by this package or by
// net/http; None where its bytes are not why: they were late, or the connection broke. Who
// says that no more comes before the body is whole may have left, or wait for the answer.
func FaultOf(err error) Fault {
	if f, ok := errors.AsType[Fault](err); ok {
		return f
	}
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok { // its text has the client's words in it
		return BadTrailer
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return CutShort
	}
	for _, known := range stdFaults {
		if strings.Contains(err.Error(), known.said) {
			return known.fault
		}
	}
	return None
}

// stdFaults are how net/http says what it has no type for; the first that fits counts. A text
// that it changes costs the reason, and nothing else.
var stdFaults = []struct {
	said  string
	fault Fault
}{
	{"header line too long", ChunkTooLong},
	{"chunk length too large", ChunkTooLong},
	{"chunked encoding contains too much", ChunkTooLong},
	{"suspiciously long trailer", TrailerTooLarge},
	{"unexpected EOF reading trailer", CutShort},
	{"request declared a Content-Length", CutShort}, // of HTTP/2, whose stream has ended before that
	{"chunk length", BadChunk},
	{"chunked", BadChunk},
}
