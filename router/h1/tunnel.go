package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// An Ending says to a client why what goes on is ended here. A WebSocket's reads it in a
// close frame; an event stream just ends, in good order.
type Ending struct {
	Code   uint16 // of a close frame (RFC 6455, 7.4.1, and IANA's list)
	Reason string // ASCII, at most 123 bytes
}

// Leaving is the Ending of who stops: for the client another server goes on.
var Leaving = Ending{1001, "the server stops; connect again"}

// What a tunnel that is told to end waits for at most: the rest of the frame that the cell
// is in, and then the client's close frame.
const (
	frameWait = time.Second
	closeWait = time.Second
	endWait   = frameWait + closeWait
)

// A tunnel is a WebSocket behind its 101. Each direction has a goroutine, which alone reads
// and writes it: so what the client is told at the end is never in the middle of a frame.
type tunnel struct {
	near, far net.Conn // the client's connection, and the cell's
	idle      time.Duration
	moved     atomic.Int64  // when a byte last went either way, in ns since 1970
	left      chan struct{} // closed when nobody reads from the client any more
	down, up  half

	mu      sync.Mutex // of deadlines
	started bool
	ending  *Ending   // nil: it goes on
	over    time.Time // where it ends: when all ends
}

// A half is one direction of a tunnel.
type half struct {
	from, to net.Conn
	in, out  time.Duration // before over: when, once told to end, reads and writes are over
	Frames
}

func newTunnel(near, far net.Conn, idle time.Duration) *tunnel {
	return &tunnel{
		near: near, far: far, idle: idle, left: make(chan struct{}),
		down: half{from: far, to: near, in: endWait, out: closeWait},
		up:   half{from: near, to: far, in: endWait, out: endWait}, // the cell hears nothing more
	}
}

// tunnel sends the 101 on and then every byte, both ways, until both sides have
// ended, or it is told to end. A side that ends its half is told so to the other.
func (t *relay) tunnel() error {
	t.tell()
	c := t.c
	x := newTunnel(c.nc, t.link.Conn, c.srv.Tunnel)
	if t.o.Stream != nil {
		done, err := t.o.Stream(x.end)
		if err != nil {
			return err
		}
		defer done()
	}
	c.w.relayed, c.w.drop = &t.x.Answer, t.o.DropAnswer
	t.w.WriteHeader(http.StatusSwitchingProtocols)
	c.w.relayed = nil
	first := t.in[t.from:t.to]
	c.out = append(c.out, first...)
	x.down.Follow(first)
	c.stopWatching()
	c.srv.tunnelled(c, x)
	x.start()
	if err := c.w.flush(); err != nil {
		return err
	}
	x.run(c.unread(), c.in, t.in)
	return nil
}

// run moves every byte until both sides have ended. first was received of the client already.
func (x *tunnel) run(first, up, down []byte) {
	x.moved.Store(time.Now().UnixNano())
	go func() { // ends with either connection, or when the tunnel was told to end; waited for below
		defer close(x.left)
		x.upwards(first, up)
	}()
	x.downwards(down)
	<-x.left
}

// end makes the tunnel end, from outside. The first word counts.
func (x *tunnel) end(e Ending) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ending != nil {
		return
	}
	x.ending, x.over = &e, time.Now().Add(endWait)
	if x.started {
		x.rouse()
	}
}

// start lets end touch deadlines: before, they are the exchange's.
func (x *tunnel) start() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.started = true
	if x.ending != nil {
		x.rouse()
	}
}

// rouse makes who waits look at what was said. The caller has the lock.
func (x *tunnel) rouse() {
	_ = errors.Join(x.far.SetDeadline(past), x.near.SetReadDeadline(past), x.near.SetWriteDeadline(x.over.Add(-closeWait))) // reads and writes report it
}

// told is how the tunnel ends, nil while it goes on.
func (x *tunnel) told() *Ending {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ending
}

// by is when a read or a write must have been done, which may take until early before the end.
// The caller has the lock.
func (x *tunnel) by(early time.Duration) time.Time {
	if x.ending != nil {
		return x.over.Add(-early)
	}
	return time.Now().Add(x.idle)
}

func (x *tunnel) read(h *half, buf []byte) (int, error) {
	x.mu.Lock()
	_ = h.from.SetReadDeadline(x.by(h.in)) // the read will report it
	x.mu.Unlock()
	return h.from.Read(buf)
}

func (x *tunnel) write(h *half, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	x.mu.Lock()
	_ = h.to.SetWriteDeadline(x.by(h.out)) // the write will report it
	x.mu.Unlock()
	_, err := h.to.Write(b)
	return err
}

// copy moves a direction's bytes until it ends. Without an error, the tunnel was told to end.
func (x *tunnel) copy(h *half, buf []byte) error {
	for {
		n, err := x.read(h, buf)
		if n > 0 {
			x.moved.Store(time.Now().UnixNano())
			h.Follow(buf[:n])
			if werr := x.write(h, buf[:n]); werr != nil {
				return werr
			}
		}
		told := x.told() != nil
		switch {
		case err == nil, timedOut(err) && told:
		case timedOut(err) && time.Since(time.Unix(0, x.moved.Load())) < x.idle: // the other direction is alive
		default:
			return err
		}
		if told {
			return nil
		}
	}
}

// downwards moves what the cell says, and says the last word itself.
func (x *tunnel) downwards(buf []byte) {
	err := x.copy(&x.down, buf)
	if x.told() == nil {
		x.ended(&x.down, err)
		return
	}
	if err != nil && !errors.Is(err, io.EOF) || !x.finish(buf) || !x.sayWhy(buf) {
		x.cut() // what is broken must not look whole
		return
	}
	_ = socketOf(x.far).Close() // TLS's goodbye would wait for a cell that takes nothing
	<-x.left
	_ = x.near.Close() // not by who told: TLS's goodbye may wait for its client
}

// finish sends the rest of the frame that the cell is in; false where that does not come.
func (x *tunnel) finish(buf []byte) bool {
	x.down.in = closeWait
	for !x.down.Between() {
		n, err := x.read(&x.down, buf)
		n = x.down.Next(buf[:n])
		if x.write(&x.down, buf[:n]) != nil || err != nil && !x.down.Between() {
			return false
		}
	}
	return true
}

// sayWhy sends the close frame, unless the cell has sent one.
func (x *tunnel) sayWhy(buf []byte) bool {
	x.down.out = 0
	return x.down.Closed() || x.write(&x.down, AppendClose(buf[:0], *x.told())) == nil
}

// upwards moves what the client says, first what was received with its request. Where the
// tunnel is told to end, the cell hears no more of it, and who has the last word waits for
// the client's close frame.
func (x *tunnel) upwards(first, buf []byte) {
	x.up.Follow(first)
	err := x.write(&x.up, first)
	if err == nil {
		err = x.copy(&x.up, buf)
	}
	if x.told() == nil {
		x.ended(&x.up, err)
		return
	}
	x.up.in = 0
	for !x.up.Closed() {
		n, err := x.read(&x.up, buf)
		x.up.Follow(buf[:n])
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), timedOut(err):
			return
		default:
			x.cut()
			return
		}
	}
}

// ended tells the other side that a direction has ended. An error ends both.
func (x *tunnel) ended(h *half, err error) {
	if !errors.Is(err, io.EOF) {
		_ = errors.Join(h.from.Close(), h.to.Close())
		return
	}
	if to, ok := h.to.(interface{ CloseWrite() error }); !ok || to.CloseWrite() != nil {
		_ = h.to.Close()
	}
}

// cut closes both sides without TLS's goodbye.
func (x *tunnel) cut() { _ = errors.Join(socketOf(x.near).Close(), socketOf(x.far).Close()) }
