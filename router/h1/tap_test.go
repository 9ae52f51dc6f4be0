package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
)

// A Tap is a way to an origin that keeps what goes there. The tests of the whole router,
// which are in package h1_test, have it too.
type Tap struct {
	Addr string

	wg   sync.WaitGroup
	mu   sync.Mutex
	sent int // bytes, of all connections
	kept []*tapped
}

// tapped is what went to the origin on one connection.
type tapped struct {
	tap   *Tap
	bytes []byte
}

func (k *tapped) Write(p []byte) (int, error) {
	k.tap.mu.Lock()
	defer k.tap.mu.Unlock()
	k.tap.sent += len(p)
	k.bytes = append(k.bytes, p...)
	return len(p), nil
}

// NewTap makes a way to the origin at addr. Who uses it closes its connections before the
// test ends.
func NewTap(tb testing.TB, addr string) *Tap {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Tap{Addr: ln.Addr().String()}
	p.wg.Go(func() { p.accept(ln, addr) })
	tb.Cleanup(func() {
		_ = ln.Close()
		p.wg.Wait()
	})
	return p
}

func (p *Tap) accept(ln net.Listener, addr string) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", addr) //nolint:noctx // a test's connection to its own machine
		if err != nil {
			_ = in.Close()
			continue
		}
		k := &tapped{tap: p}
		p.mu.Lock()
		p.kept = append(p.kept, k)
		p.mu.Unlock()
		carry := func(to io.Writer, from io.Reader) {
			defer func() { _, _ = in.Close(), out.Close() }()
			_, _ = io.Copy(to, from)
		}
		p.wg.Go(func() { carry(out, io.TeeReader(in, k)) }) // it is kept before it is sent
		p.wg.Go(func() { carry(in, out) })
	}
}

// Sent is how many bytes went to the origin.
func (p *Tap) Sent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// Requests are those that went to the origin whole, as net/http reads them, in order of
// their text and each once. Of one that was cut there is nothing.
func (p *Tap) Requests() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.kept {
		for from := bufio.NewReader(bytes.NewReader(k.bytes)); ; {
			r, err := http.ReadRequest(from)
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				all = append(all, "no request: "+err.Error())
				break
			}
			all = append(all, r.Method+" "+r.RequestURI)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Desync is each case of TestDesync, with the fault that it has.
func Desync(yield func(in string, f Fault) bool) {
	for _, c := range desync() {
		f := c.want
		if f == None { // whichever it is
			_, err := judge([]byte(c.in))
			f, _ = errors.AsType[Fault](err)
		}
		if !yield(c.in, f) {
			return
		}
	}
}

// headFault is what is wrong with the head of a request, None where it is only its body.
func headFault(in string) Fault {
	var r Request
	r.Begin(Limits{})
	_, f := r.Parse([]byte(in))
	return f
}

// Serve runs s until the test ends.
func Serve(tb testing.TB, s *Server) (addr string) {
	tb.Helper()
	return serve(tb, s)
}
