package streams

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/cellway/cellway/router/h1"
)

// What a Tunnel waits for, as a tunnel of h1 does.
const (
	frameWait = time.Second
	closeWait = time.Second
	idle      = 10 * time.Minute
)

var errEnded = errors.New("the tunnel was told to end")

// A Tunnel is the cell's end of a WebSocket that httputil.ReverseProxy relays: what Read
// returns is for the client, and what the client says goes to Write. Told to end it is as
// one of h1.
type Tunnel struct {
	cell   io.ReadWriteCloser
	client Deadlines
	done   func()
	once   sync.Once

	mu       sync.Mutex
	timer    *time.Timer // cuts both sides off
	closed   bool
	down, up h1.Frames
	ending   *h1.Ending    // nil: it goes on
	last     []byte        // what the client has still to be told
	said     bool          // and nothing follows it
	left     chan struct{} // closed when the client has said goodbye, or has had the time to
	leave    func()
}

// Deadlines are those of the client's connection: a *http.ResponseController has them, also
// when the connection was hijacked.
type Deadlines interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// NewTunnel makes the Tunnel of a cell's connection and a client's.
func NewTunnel(cell io.ReadWriteCloser, client Deadlines) *Tunnel {
	x := &Tunnel{cell: cell, client: client, done: func() {}, left: make(chan struct{})}
	x.leave = sync.OnceFunc(func() { close(x.left) })
	x.timer = time.AfterFunc(idle, x.cut)
	return x
}

// cut ends both sides. ReverseProxy waits for the client where only the cell has ended.
func (x *Tunnel) cut() {
	x.mu.Lock()
	if !x.closed { // or the client's connection is not ours any more
		past := time.Unix(1, 0)
		_ = errors.Join(x.client.SetReadDeadline(past), x.client.SetWriteDeadline(past)) // reads and writes report it
	}
	x.mu.Unlock()
	x.leave()
	_ = x.cell.Close()
}

// Done is called when it has ended.
func (x *Tunnel) Done(done func()) { x.done = done }

// End makes it end, from outside. The first word counts.
func (x *Tunnel) End(e h1.Ending) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != nil {
		return
	}
	x.ending = &e
	x.timer.Reset(frameWait)
	if x.down.Between() {
		go func() { _ = x.cell.Close() }() // a Read that waits returns; TLS's goodbye, with a deadline, holds nobody up
	}
}

// Read implements io.Reader.
func (x *Tunnel) Read(p []byte) (int, error) {
	if !x.saying() {
		n, err := x.cell.Read(p)
		if n, over := x.read(p[:n]); !over {
			return n, err
		} else if n > 0 {
			return n, nil
		}
	}
	x.mu.Lock()
	n := copy(p, x.last)
	x.last = x.last[n:]
	x.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	<-x.left
	return 0, errEnded
}

func (x *Tunnel) saying() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.said
}

// read is how much of what the cell said is for the client, and whether that is all.
func (x *Tunnel) read(b []byte) (n int, over bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending == nil {
		x.timer.Reset(idle)
		x.down.Follow(b)
		return len(b), false
	}
	if !x.down.Between() {
		n = x.down.Next(b)
	}
	if !x.down.Between() {
		return n, false
	}
	if !x.down.Closed() {
		x.last = h1.AppendClose(nil, *x.ending)
	}
	x.said = true
	x.timer.Reset(closeWait)
	if x.up.Closed() {
		x.leave()
	}
	return n, true
}

// Write implements io.Writer. Told to end, it drops what the cell is not to hear any more.
func (x *Tunnel) Write(p []byte) (int, error) {
	if x.hears(p) {
		return len(p), nil
	}
	n, err := x.cell.Write(p)
	if err != nil && x.hears(nil) {
		return len(p), nil
	}
	return n, err
}

// hears takes what the client says, and reports whether the tunnel was told to end.
func (x *Tunnel) hears(p []byte) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.up.Follow(p)
	switch {
	case x.ending == nil:
		x.timer.Reset(idle)
	case x.said && x.up.Closed():
		x.leave()
	}
	return x.ending != nil
}

// CloseWrite tells the cell that the client's half has ended.
func (x *Tunnel) CloseWrite() error {
	if half, ok := x.cell.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errEnded
}

// Close implements io.Closer.
func (x *Tunnel) Close() error {
	x.once.Do(func() {
		x.mu.Lock()
		x.closed = true
		x.timer.Stop()
		x.mu.Unlock()
		x.leave()
		x.done()
	})
	return x.cell.Close()
}
