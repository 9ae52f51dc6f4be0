package router

import (
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/h1"
	"github.com/cellway/cellway/router/pool"
)

// keptBody is how much of a body is kept for the repeat after a stale epoch.
const keptBody = 64 << 10

// firstPiece is what waits for a body's first bytes; more, when they have come.
const firstPiece = 4 << 10

// A body is a request's body that can be sent again where its first keptBody bytes are all
// of it: of a longer one each attempt reads on from the client as soon as it can, and when the
// cell has answered, an engine ends that reading for good.
type body struct {
	prefix []byte
	whole  bool // prefix is all there is
	rest   io.ReadCloser

	mu      sync.Mutex
	current *attempt // may read rest; nil: none
	err     error    // of the first read of the client's body that failed; nil: none has
}

// readBody reads the first part of r's body, of which at most most bytes are
// allowed in all (0: any).
func readBody(w http.ResponseWriter, r *http.Request, most int64) (*body, error) {
	b := &body{rest: r.Body, whole: true}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, nil
	}
	if err := front.Await(r.Context()); err != nil {
		return nil, err
	}
	if most > 0 {
		b.rest = http.MaxBytesReader(w, r.Body, most)
	}
	size := keptBody
	if r.ContentLength > 0 {
		size = int(min(keptBody, r.ContentLength))
	}
	for b.prefix = make([]byte, 0, min(size, firstPiece)); len(b.prefix) < size; {
		had := len(b.prefix)
		if had == cap(b.prefix) {
			b.prefix = slices.Grow(b.prefix, min(had, size-had))
		}
		n, err := b.rest.Read(b.prefix[had:min(cap(b.prefix), size)])
		b.prefix = b.prefix[:had+n]
		if errors.Is(err, io.EOF) && r.ContentLength <= int64(had+n) {
			return b, nil
		} else if err != nil {
			return nil, clientError(err)
		}
	}
	b.whole = r.ContentLength == int64(size)
	return b, nil
}

// clientError is what a body that cannot be read means to its sender.
func clientError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.Wrap(problem.TooLarge, err, "the body is too large")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // nothing is wrong with the request
		return problem.Wrap(problem.RateLimited, err, "the body has not come in time").After(pool.RetrySoon)
	}
	if f := h1.FaultOf(err); f != h1.None {
		return faulty(f)
	}
	return problem.Wrap(problem.Invalid, err, "the body could not be read")
}

// attach gives r a body for one attempt. The attempt before must be over, or
// rewind have been called.
func (b *body) attach(r *http.Request) *http.Request {
	if len(b.prefix) == 0 && b.whole {
		r.Body = http.NoBody
		return r
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = &attempt{body: b}
	r.Body = b.current
	return r
}

// rewind ends the attempt and reports whether another can send the same body.
func (b *body) rewind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
	return b.whole
}

// failed is what err means to the client where its cause is that the client's body could not
// be read, else nil: of an exchange that has failed otherwise we end the upload ourselves.
func (b *body) failed(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || !errors.Is(err, b.err) {
		return nil
	}
	return clientError(b.err)
}

// goesOn reports whether a may read from rest.
func (b *body) goesOn(a *attempt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current == a
}

func (b *body) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

// errAttemptOver is what a transport reads that goes on sending the body after
// the cell has answered and the request was sent elsewhere.
var errAttemptOver = errors.New("body: this attempt is over")

// An attempt reads a body from its start.
type attempt struct {
	body *body
	at   int // in prefix
}

func (a *attempt) Read(p []byte) (int, error) {
	b := a.body
	if a.at < len(b.prefix) {
		n := copy(p, b.prefix[a.at:])
		a.at += n
		return n, nil
	}
	if b.whole {
		return 0, io.EOF
	}
	if !b.goesOn(a) {
		return 0, errAttemptOver
	}
	n, err := b.rest.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.fail(err)
	}
	return n, err
}

// Close leaves the client's body open: the server closes it when the request ends.
func (a *attempt) Close() error { return nil }
