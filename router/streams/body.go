package streams

import (
	"io"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/router/h1"
)

// streamWrite bounds one write to a stream's client: who takes no byte for so
// long is gone.
const streamWrite = 30 * time.Second

// Is reports whether an answer goes on as long as it likes.
func Is(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "text/event-stream"
}

// A Body is the body of an answer that goes on. It lifts the deadlines of the
// client's connection: each piece has its own. Ended from here, it looks whole.
type Body struct {
	io.ReadCloser
	rc    *http.ResponseController
	ended atomic.Bool
	done  func()
	once  sync.Once
}

// NewBody makes the Body of a cell's body, for the client behind w.
func NewBody(w http.ResponseWriter, body io.ReadCloser) (*Body, error) {
	b := &Body{ReadCloser: body, rc: http.NewResponseController(w), done: func() {}}
	// With the server's deadline for reading, net/http would take the client for gone.
	return b, b.rc.SetReadDeadline(time.Time{})
}

// Read implements io.Reader. What it returns is written within streamWrite, the end
// of the answer too; io.EOF comes back as itself, for that is what is compared with.
func (b *Body) Read(p []byte) (int, error) {
	_ = b.rc.SetWriteDeadline(time.Time{}) // at it HTTP/2 would end the stream, even if there is nothing to write
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.ended.Load() {
		err = io.EOF
	}
	_ = b.rc.SetWriteDeadline(time.Now().Add(streamWrite)) // the write will report it
	return n, err
}

// Done is called when it has ended.
func (b *Body) Done(done func()) { b.done = done }

// End ends the stream in good order for the client.
func (b *Body) End(h1.Ending) {
	b.ended.Store(true)
	_ = b.ReadCloser.Close() // a Read that waits returns
}

// Close implements io.Closer.
func (b *Body) Close() error {
	b.once.Do(b.done)
	return b.ReadCloser.Close()
}
