package front

import (
	"net"
	"sync"
	"time"
)

// net/http writes the head of an answer over HTTP/2 and then its body, each with a record
// of TLS and a call of the kernel's, though mostly the body is there already. So heads
// that come alone are held, for a moment, for what comes next.
const (
	headsWait = time.Millisecond
	headsRoom = 8 << 10 // bytes that are held, or go with those that are
)

// heads is what is held of a connection.
type heads struct {
	conn net.Conn

	mu    sync.Mutex
	held  *[headsRoom]byte // nil: nothing is
	n     int              // bytes of it
	timer *time.Timer      // writes them if nothing comes; nil: none was needed yet
	err   error            // of that
}

var headsPool = sync.Pool{New: func() any { return new([headsRoom]byte) }}

// write writes p behind what is held, or holds it where it is heads alone.
func (h *heads) write(p []byte, alone bool) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return 0, h.err
	case h.n+len(p) > headsRoom:
		if err := h.flush(nil); err != nil {
			return 0, err
		}
		return h.conn.Write(p)
	case alone:
		h.hold(p)
		return len(p), nil
	case h.n > 0:
		return len(p), h.flush(p)
	}
	return h.conn.Write(p)
}

// hold keeps p for the next write. The caller has the lock.
func (h *heads) hold(p []byte) {
	if h.held == nil {
		h.held, _ = headsPool.Get().(*[headsRoom]byte)
		if h.timer == nil {
			h.timer = time.AfterFunc(headsWait, h.late)
		} else {
			h.timer.Reset(headsWait)
		}
	}
	h.n += copy(h.held[h.n:], p)
}

// flush writes what is held, and p, for which there is room. A part of it is as good as
// nothing: the connection is over. The caller has the lock.
func (h *heads) flush(p []byte) error {
	if h.held == nil {
		return nil
	}
	h.timer.Stop() // one that fires all the same finds nothing
	h.n += copy(h.held[h.n:], p)
	_, h.err = h.conn.Write(h.held[:h.n])
	headsPool.Put(h.held)
	h.held, h.n = nil, 0
	return h.err
}

// late writes heads that nothing came for: of an answer whose body is still to come.
func (h *heads) late() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		return
	}
	_ = h.conn.SetWriteDeadline(time.Now().Add(writeTime)) // each write of net/http's sets its own
	if h.flush(nil) != nil {
		_ = h.conn.Close() // nobody else may have anything to write
	}
}
