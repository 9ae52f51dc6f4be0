package h1

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// open makes the http.Request of the head that was read. All of its strings are
// parts of one copy of the head: they may be kept.
func (c *conn) open() {
	c.forHandlers()
	r, q := c.request, &c.req
	r.Method, r.Host, r.RemoteAddr = method(q.Method()), q.Host(), c.peer
	r.RequestURI = q.Target()
	r.URL = c.parseTarget(r.RequestURI)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	if q.Minor() == 0 {
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
	}
	r.Close, r.Trailer, r.Form, r.PostForm, r.MultipartForm, r.Pattern = q.Close(), nil, nil, nil, nil, ""
	r.ContentLength, r.TransferEncoding = max(-1, int64(q.Length())), nil
	if q.Length() == Chunked {
		r.TransferEncoding = chunkedCoding
	}
	c.openHeader()
	c.body.Begin(q.Length(), c.srv.Limits, false)
	c.aborted, c.reader, r.Body = false, nil, http.NoBody
	c.bodyDone.Store(c.body.Done())
	if !c.body.Done() {
		c.reader = &bodyReader{c: c, waits: q.Continue()}
		r.Body = c.reader
	}
}

var chunkedCoding = []string{"chunked"}

// openHeader fills the header, without the fields that net/http takes out.
func (c *conn) openHeader() {
	h, q := c.request.Header, &c.req
	clear(h)
	if len(c.values) < q.Len() {
		c.values = make([]string, q.Len())
	}
	values := c.values // the connection's own, as the header is: no other client's can be seen in them
	for i := range q.Len() {
		switch q.fields[i].known {
		case host, transferEncoding:
			continue
		}
		values[i] = q.Value(i)
		key := textproto.CanonicalMIMEHeaderKey(q.Name(i))
		if before, again := h[key]; again {
			h[key] = append(before, values[i])
		} else {
			h[key] = values[i : i+1 : i+1]
		}
	}
}

// method is m, as a constant where it is usual: it outlives the request in spans.
func method(m string) string {
	switch m {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	}
	return m
}

// parseTarget is url.ParseRequestURI of a target that the parser took. It has
// the usual case at hand: a path without escapes.
func (c *conn) parseTarget(target string) *url.URL {
	path, query, asked := strings.Cut(target, "?")
	if plain(path) {
		c.url = url.URL{Path: path, RawQuery: query, ForceQuery: asked && query == ""}
		return &c.url
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return &url.URL{Path: "//"} // cannot be: the parser is stricter. Who asks refuses this path
	}
	return u
}

// plain reports whether a path is its own escaped form.
func plain(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '-', c == '_', c == '.', c == '~':
		default:
			return false
		}
	}
	return path != ""
}

// A bodyReader is a request's body. After the exchange it reads nothing more,
// whoever still has it.
type bodyReader struct {
	mu    sync.Mutex
	c     *conn
	rest  []byte // of the part that was read last
	waits bool   // the client waits for 100
	now   bool   // a Read does not wait: it says 0, nil
	err   error
}

var goOn = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && len(b.rest) == 0 && len(p) > 0 {
		if b.straight(p) {
			var n int
			n, b.err = b.into(p)
			return n, b.err
		}
		b.rest, b.err = b.next()
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	for n > 0 && n < len(p) && b.err == nil { // chunks may be small, and each piece costs who sends it on
		if b.rest, b.err = b.received(); len(b.rest) == 0 {
			break
		}
		k := copy(p[n:], b.rest)
		n, b.rest = n+k, b.rest[k:]
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// next is the next part of the body.
func (b *bodyReader) next() ([]byte, error) {
	for {
		if data, err := b.received(); err != nil || len(data) > 0 {
			return data, err
		}
		if b.c.body.Done() {
			return nil, io.EOF
		}
		if err := b.wait(); err != nil {
			return nil, err
		}
	}
}

// received is the next part of what was received already, nothing where it has no more.
func (b *bodyReader) received() ([]byte, error) {
	c := b.c
	for !c.body.Done() { // else what was received may be a watcher's
		data, n, f := c.body.Next(c.unread())
		c.from += n
		c.bodyDone.Store(c.body.Done())
		switch {
		case f != None:
			return nil, f
		case len(data) > 0:
			return data, nil
		case n == 0:
			return nil, nil
		}
	}
	return nil, nil
}

// wait reads more from the client, for a bounded time.
func (b *bodyReader) wait() error {
	c := b.c
	if b.waits {
		b.waits = false
		if !c.w.headed {
			if _, err := c.nc.Write(goOn); err != nil {
				return err
			}
		}
	}
	if !c.readBy(time.Now().Add(c.srv.Upload)) {
		return http.ErrBodyReadAfterClose
	}
	err := c.fill()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close implements io.Closer. The rest of the body is read when the exchange ends.
func (b *bodyReader) Close() error { return nil }

// readBy sets when a read of the body ends; false where the body is aborted.
func (c *conn) readBy(t time.Time) bool {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	if c.aborted {
		return false
	}
	if t.After(c.until) {
		t = c.until
	}
	return c.nc.SetReadDeadline(t) == nil
}

// past is a deadline that makes a read return at once.
var past = time.Unix(1, 0)

// abortBody makes a read of the body under way, and all later ones, fail.
func (c *conn) abortBody() {
	c.deadline.Lock()
	defer c.deadline.Unlock()
	c.aborted, c.mustClose = true, true
	_ = c.nc.SetReadDeadline(past) // or the connection is closed, which does as well
}

// closeBody takes the body from whoever still has it.
func (c *conn) closeBody() {
	b := c.reader
	if b == nil {
		return
	}
	if !b.mu.TryLock() {
		c.abortBody()
		b.mu.Lock()
	}
	if b.waits || b.err != nil && !errors.Is(b.err, io.EOF) {
		c.mustClose = true // the body will not come, or its end is not known
	}
	b.err, b.rest = http.ErrBodyReadAfterClose, nil
	b.mu.Unlock()
}

// drainBytes is how much of a body nobody wanted is read for the sake of the
// connection.
const drainBytes = 64 << 10

// drain reads the rest of the body; false where that is not worth it.
func (c *conn) drain() bool {
	if c.reader == nil {
		return true
	}
	for total := 0; !c.body.Done(); {
		_, n, f := c.body.Next(c.unread())
		c.from += n
		total += n
		if f != None || total > drainBytes {
			return false
		}
		if n > 0 || c.body.Done() {
			continue
		}
		if !c.readBy(time.Now().Add(lingerTime)) || c.fill() != nil {
			return false
		}
	}
	c.bodyDone.Store(true)
	c.retouch()
	return true
}

// timedOut reports whether err is a deadline's.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
