package h1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The states of a connection, for who wants to stop.
const (
	idle int32 = iota
	active
	closed
)

// A conn is a client's connection. Its goroutine does everything but watching
// for a client that leaves, and uploads that take long; while it naps it has none.
type conn struct {
	srv     *Server
	nc      net.Conn
	raw     syscall.RawConn // nil where nc is no socket
	peer    string
	ip      string          // of peer
	ctx     context.Context // ends with the connection, and when the client leaves
	cancel  context.CancelFunc
	state   atomic.Int32
	loop    atomic.Pointer[loop] // that drives it; nil: a goroutine does
	air     airborne             // what the loop has of it
	outer   net.Conn             // which a loop was given, to be told of the end; nil in others
	tunnel  *tunnel              // nil: it is none, or not yet; under srv.mu
	touched time.Time
	until   time.Time // the exchange's end at the latest

	tired   bool   // idle for so long that it naps
	wakeful bool   // it does not nap before the next request
	napped  bool   // the Server's naps know its socket
	number  uint64 // of its last nap; under naps.mu, as its neighbours among those who nap
	older   *conn
	newer   *conn

	*buffers // nil while there is nothing to read
	poll     func(fd uintptr) bool
	pollErr  error
	push     pusher
	one      [1]byte // where the next request begins, while there are no buffers
	packed   []byte  // a part of a head, while there are no buffers

	secured *tls.ConnectionState // nil: it is plain
	request *http.Request        // used again and again; nil until a handler needs it
	url     url.URL              // the request's
	values  []string             // of the request's header
	reader  *bodyReader          // of the request, nil where it has no body
	w       writer
	taken   *relay // a flight that the handler goes on with

	relaying *relay // whose answer the client may keep waiting; nil: none, or it is a loop's
	waits    bool   // the handler goes on with one that was not sent yet
	asked    bool   // Direct leaves the request that comes next to the handler
	origin   *loop  // that has grounded it; nil: none has
	flew     bool   // its last exchange was one that a loop could have served

	bodyDone  atomic.Bool // the request's body has been read whole
	mustClose bool        // after this exchange
	reset     bool        // so that what was sent cannot look whole

	deadline sync.Mutex // of reads, for a body that is aborted
	aborted  bool
	watcher
}

// buffers is the memory of a connection that is not idle.
type buffers struct {
	in       []byte
	from, to int // what of in was received and not used
	req      Request
	body     Body
	flight   Flight
	written  *written // nil until an answer begins
	out      []byte   // written's
	small    []byte   // written's: a handler's answer whose length is not known yet
}

// written is the memory of a connection that is answered: who only asks, or waits, has none.
type written struct{ out, small []byte }

const (
	inBytes    = 16 << 10
	outBytes   = 16 << 10
	smallBytes = 2 << 10
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, peer: nc.RemoteAddr().String()}
	c.ip = ipOf(c.peer)
	c.w.c = c
	c.ground(nc)
	return c
}

// ground gives c what a connection with a goroutine has.
func (c *conn) ground(nc net.Conn) {
	c.nc = nc
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn() // nil where it fails: then reads are plain
	}
	c.poll = c.pollOnce
	c.push.raw = c.raw
	ctx := context.WithValue(context.Background(), http.ServerContextKey, stdServer)
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.setTLS()
}

// forHandlers makes what only handlers need: most connections just fly.
func (c *conn) forHandlers() {
	if c.request == nil {
		c.request = (&http.Request{Header: make(http.Header, 16), TLS: c.secured}).WithContext(c.ctx)
		c.w.header = make(http.Header, 8)
	}
}

// stdServer is what httputil.ReverseProxy looks for in a context to know that it
// runs in a server.
var stdServer = &http.Server{ReadHeaderTimeout: time.Second}

func (c *conn) serve() {
	defer c.leave()
	for first := true; c.await(first) == nil; first = false {
		if !c.readHead() || !c.exchange() {
			return
		}
	}
}

// end gives back what the connection has.
func (c *conn) end() {
	c.cancel()
	if c.watch != nil {
		c.watch.Stop()
	}
	nc := c.nc
	if c.reset {
		c.dropUnsent()
		nc = c.socket() // TLS would say goodbye, as after a whole answer
	}
	_ = nc.Close()
	c.release()
	c.srv.gone(c)
}

// kill ends the connection from outside.
func (c *conn) kill() {
	if lp := c.loop.Load(); lp != nil && lp.post(func() { lp.kill(c) }) {
		return
	}
	c.cancel()
	_ = c.socket().Close() // without TLS's goodbye: what was under way must not look whole
	c.srv.naps.rouse(c)
}

// shut closes a connection that is idle, from outside. The caller has the Server's lock,
// and does not wait for a client to take TLS's goodbye.
func (c *conn) shut() {
	if lp := c.loop.Load(); lp != nil && lp.post(func() { lp.close(c) }) {
		return
	}
	nc := c.nc
	bye := func() { // first the connection, so that nobody goes on, and then its nap
		_ = nc.Close()
		c.srv.naps.rouse(c)
	}
	if _, ok := nc.(*tls.Conn); ok {
		go bye() // ends in seconds, by crypto/tls, or when kill closes the socket
		return
	}
	bye()
}

func (c *conn) acquire() {
	if c.buffers != nil {
		return
	}
	b, ok := c.srv.buffers.Get().(*buffers)
	if !ok {
		b = &buffers{in: make([]byte, inBytes)}
	}
	b.from, b.to = 0, 0
	c.buffers = b
	c.unpack()
}

// answers makes out and small ready.
func (c *conn) answers() {
	b := c.buffers
	if b.written != nil {
		return
	}
	w, ok := c.srv.written.Get().(*written)
	if !ok {
		w = &written{out: make([]byte, 0, outBytes), small: make([]byte, 0, smallBytes)}
	}
	b.written, b.out, b.small = w, w.out, w.small
}

func (c *conn) release() {
	b := c.buffers
	if b == nil {
		return
	}
	c.buffers = nil
	if len(b.in) > inBytes {
		b.in = make([]byte, inBytes) // a large head is rare
	}
	if w := b.written; w != nil {
		if cap(b.out) <= 2*outBytes {
			w.out = b.out[:0]
		}
		b.written, b.out, b.small = nil, nil, nil
		c.srv.written.Put(w)
	}
	b.req.Bind("")
	c.srv.buffers.Put(b)
}

// unread is what was received and not used.
func (c *conn) unread() []byte { return c.in[c.from:c.to] }

// errFlew says that a loop may drive the connection again.
var errFlew = errors.New("the connection is one for a loop")

// await waits for a request's first bytes. While it waits, the connection has
// no buffers.
func (c *conn) await(first bool) error {
	if c.buffers != nil && c.from < c.to {
		return nil
	}
	c.release()
	if !first {
		c.state.Store(idle)
		if c.srv.draining.Load() {
			return net.ErrClosed
		}
		if c.flew && c.origin != nil {
			c.tired = true
			return errFlew
		}
		c.touch()
	} else if err := c.nc.SetDeadline(time.Now().Add(c.srv.Head)); err != nil {
		return err
	}
	var err error
	if c.raw != nil {
		c.pollErr = nil
		if err = c.raw.Read(c.poll); err == nil {
			err = c.pollErr
		}
	} else {
		err = c.awaitByte()
	}
	if err != nil {
		c.tired = canNap && !first && !c.wakeful && timedOut(err)
		return err
	}
	if !c.state.CompareAndSwap(idle, active) {
		return net.ErrClosed
	}
	return nil
}

// pollOnce reads if there is something to read.
func (c *conn) pollOnce(fd uintptr) bool {
	c.acquire()
	for {
		n, err := syscall.Read(int(fd), c.in)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // an Errno as the kernel gave it
			continue
		case err == syscall.EAGAIN: //nolint:errorlint // as above
			c.release()
			return false
		case err != nil:
			c.pollErr = err
		case n == 0:
			c.pollErr = net.ErrClosed
		}
		c.to = max(n, 0)
		return true
	}
}

// fill reads more.
func (c *conn) fill() error {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	if c.to == len(c.in) {
		if c.from == 0 {
			c.in = append(c.in, make([]byte, len(c.in))...)
		}
		c.to = copy(c.in, c.in[c.from:c.to])
		c.from = 0
	}
	n, err := c.nc.Read(c.in[c.to:])
	c.to += n
	if n > 0 {
		return nil
	}
	return err
}

// readHead reads a request's head; false where there is none to serve.
func (c *conn) readHead() bool {
	c.req.Begin(c.srv.Limits)
	for slow := false; ; slow = true {
		n, f := c.req.Parse(c.unread())
		switch {
		case f != None:
			c.refuse(f)
			return false
		case n > 0:
			c.req.Alias(c.in[c.from : c.from+n])
			c.from += n
			slow, c.wakeful = slow || c.wakeful, false
			c.touch()
			if slow {
				c.readLazily()
			}
			return true
		}
		if !slow {
			_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.Head)) // the read will report it
		}
		if c.fill() != nil {
			return false
		}
	}
}

// refuse answers bytes that are not a request, and closes.
func (c *conn) refuse(f Fault) {
	header, body := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, []byte(f.Error()+"\n")
	if f == MethodRefused {
		header.Set("Allow", Methods) // RFC 9110, 15.5.6
	}
	if c.srv.Refused != nil {
		path, _, _ := bytes.Cut(c.req.target.in(c.unread()), []byte("?"))
		body = c.srv.Refused(f, string(path), header)
	}
	c.answers()
	c.out = AppendStatusLine(c.out[:0], f.Status())
	for _, name := range slices.Sorted(maps.Keys(header)) {
		c.out = AppendField(c.out, name, header[name][0])
	}
	c.out = AppendField(c.out, "Connection", "close")
	c.out = append(AppendLength(appendDate(c.out), Length(len(body))), "\r\n"...)
	c.out = append(c.out, body...)
	if c.flush() == nil {
		c.linger()
	}
}

// exchange serves the request that was read; false where the connection ends.
func (c *conn) exchange() bool {
	now := time.Now()
	c.until = now.Add(c.srv.Whole)
	c.mustClose = c.req.Close()
	c.flew = false
	if c.plain() && !c.asked {
		if served, ok := c.fly(now); served {
			return ok
		}
	}
	c.asked = false
	return c.byHandler()
}

// byHandler gives the request to the handler.
func (c *conn) byHandler() bool {
	c.req.Bind(strings.Clone(c.req.text)) // what handlers make of it may outlive the buffer
	c.open()
	c.w.begin()
	c.startWatching()
	ok := c.handle()
	c.stopWatching()
	return ok && c.finish()
}

// handle runs the handler; false where it gave the exchange up.
func (c *conn) handle() (ok bool) {
	defer func() {
		if cause := recover(); cause != nil {
			ok = false
			c.reset = c.w.headed || c.w.err != nil // what has been sent must not look whole
			if cause != http.ErrAbortHandler {     //nolint:errorlint // a value of panic, never wrapped
				c.panicked(cause)
			}
		}
		c.closeBody()
		c.dropTaken()
	}()
	c.srv.Handler.ServeHTTP(&c.w, c.request)
	return true
}

// finish ends the answer, and reads what is left of the request's body.
func (c *conn) finish() bool {
	if c.tunnel != nil {
		return false
	}
	c.mustClose = c.mustClose || c.reader != nil && c.body.Left() > drainBytes
	if err := c.w.finish(); err != nil {
		c.reset = true
		return false
	}
	if c.mustClose || !c.drain() {
		if !c.bodyDone.Load() || c.lasts() {
			c.linger()
		}
		return false
	}
	return true
}

// lasts reports whether a close could cut the last answer: the client has sent more, or may
// do so while the kernel still has some of the answer to send.
func (c *conn) lasts() (yes bool) {
	if c.from < c.to {
		return true
	}
	if raw := c.rawSocket(); raw != nil {
		_ = raw.Control(func(fd uintptr) { yes = unsent(fd) || somethingThere(fd) }) // a closed one has nothing to send
	}
	return yes
}

// lingering bounds what is read of a client that was refused: until it is silent
// for lingerTime, and no longer or more than the others.
const (
	lingerTime  = 500 * time.Millisecond
	lingerWhole = 5 * time.Second
	lingerBytes = 16 << 20
)

// linger lets the client read the answer: a socket that is closed with bytes
// unread is reset, and the reset may overtake the answer.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	for total, over := 0, time.Now().Add(lingerWhole); total < lingerBytes && time.Now().Before(over); {
		_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime)) // the read will report it
		n, err := c.nc.Read(c.in)
		if err != nil {
			return
		}
		total += n
	}
}

// flush sends what was written.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.relaying.beforeWrite()
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return c.relaying.afterWrite(err)
}
