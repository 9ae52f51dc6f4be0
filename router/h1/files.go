package h1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// Files bounds the connections to cells by the files that the process may have
// open: all of them together, those in use and those that are idle. Where one is
// wanted and none is left, an idle one is closed for it; and so where the kernel
// has no descriptor, for a cell or for a client. Nil bounds nothing.
type Files struct {
	most    int64
	open    atomic.Int64
	dropped atomic.Int64
	refused atomic.Int64

	keepers atomic.Pointer[[]Keeper] // never changed after it is stored
	turn    atomic.Uint32            // whose idle connection is the next to go
	mu      sync.Mutex               // of who changes keepers
}

// A Keeper has idle connections. Upstream and the loops implement it, and a
// router's transports of net/http.
type Keeper interface {
	// DropIdle closes at least one connection that is idle, the one for longest first,
	// and says how many it were. It may wait for a loop, and is not called by one.
	DropIdle() int
}

// ErrNoFiles says that there are as many connections to cells as there may be, and
// all are in use. It is no word about any cell.
var ErrNoFiles = fmt.Errorf("as many connections to cells as there may be are in use: %w", syscall.EMFILE)

// NewFiles bounds connections to cells to so many; 0 is no bound but the kernel's.
func NewFiles(most int) *Files { return &Files{most: int64(most)} }

// Join has k asked for idle connections, until Leave.
func (f *Files) Join(k Keeper) { f.change(func(all []Keeper) []Keeper { return append(all, k) }) }

// Leave ends what Join began.
func (f *Files) Leave(k Keeper) {
	f.change(func(all []Keeper) []Keeper {
		return slices.DeleteFunc(all, func(other Keeper) bool { return other == k })
	})
}

func (f *Files) change(by func([]Keeper) []Keeper) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := by(slices.Clone(f.all()))
	f.keepers.Store(&all)
}

func (f *Files) all() []Keeper {
	if all := f.keepers.Load(); all != nil {
		return *all
	}
	return nil
}

// Counts are connections now, the most there may be, those that were closed for
// want of one, and those that could not be had.
func (f *Files) Counts() (open, most, dropped, refused int64) {
	return f.open.Load(), f.most, f.dropped.Load(), f.refused.Load()
}

// make makes a connection by dial, for which give is owed. Each turn has closed an
// idle one, so it ends.
func (f *Files) make(dial func() (net.Conn, error)) (net.Conn, error) {
	if f == nil {
		return dial()
	}
	for f.open.Add(1) > f.most && f.most > 0 {
		f.open.Add(-1)
		if !f.drop() {
			f.refused.Add(1)
			return nil, ErrNoFiles
		}
	}
	nc, err := dial()
	for short(err) && f.drop() {
		nc, err = dial()
	}
	if err != nil {
		f.open.Add(-1)
		if short(err) {
			f.refused.Add(1)
			err = errors.Join(ErrNoFiles, err)
		}
	}
	return nc, err
}

func (f *Files) give() {
	if f != nil {
		f.open.Add(-1)
	}
}

// short reports whether err is the kernel's want of descriptors.
func short(err error) bool {
	return err != nil && (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE))
}

// drop closes an idle connection, each keeper's in its turn; false where there is none.
func (f *Files) drop() bool {
	if f == nil {
		return false
	}
	all := f.all()
	from := int(f.turn.Add(1))
	for i := range all {
		if n := all[(from+i)%len(all)].DropIdle(); n > 0 {
			f.dropped.Add(int64(n))
			return true
		}
	}
	return false
}

// Dial makes a connection by dial, which is counted until it is closed.
func (f *Files) Dial(ctx context.Context, dial func(ctx context.Context) (net.Conn, error)) (net.Conn, error) {
	nc, err := f.make(func() (net.Conn, error) { return dial(ctx) })
	if err != nil {
		return nil, err
	}
	return &counted{Conn: nc, files: f}, nil
}

type counted struct {
	net.Conn
	files *Files
	once  sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.files.give)
	return err
}

// CloseWrite half-closes, where the connection below can.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Listener is ln, whose connections come before those that are idle.
func (f *Files) Listener(ln net.Listener) net.Listener {
	if f == nil {
		return ln
	}
	return &sparing{ln, f}
}

type sparing struct {
	net.Listener
	files *Files
}

// Accept implements net.Listener.
func (l *sparing) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if !short(err) || !l.files.drop() {
			return nc, err
		}
	}
}
