package h1

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An Upstream is the connections to one address. Those that are idle wait for
// the next exchange, the last one first, so that those too many grow old. The
// zero Upstream with an Addr is ready; Close it.
type Upstream struct {
	Addr   string        // host:port
	Idle   int           // connections that are kept; 0 is 64
	MaxAge time.Duration // that an idle connection is kept; 0 is 90 s
	Dial   time.Duration // for a connection to be made; 0 is 2 s
	Limits Limits        // of answers
	TLS    *tls.Config   // nil: the connections are plain
	Files  *Files        // that bounds the connections, with other Upstreams'; nil: nothing does

	Patience time.Duration // for one piece of an event stream to be taken; 0 is 30 s

	mu     sync.Mutex
	links  []*link
	sweeps *time.Timer // nil while none is idle
	closed bool
	joined bool // Files knows of it
}

// A link is one upstream connection.
type link struct {
	net.Conn
	files *Files      // where it is counted
	given atomic.Bool // no more
	tls   *secured    // nil where it is plain
	raw   syscall.RawConn
	peek  func(fd uintptr)
	quiet bool // what peek found: open, and nothing to read
	used  bool // it has served an exchange
	since time.Time
	until time.Time // the deadline that extend set; zero where another one was
	end   time.Time // after which no request begins on it; zero: none is near
}

// over reports whether l has reached its end. Wall clocks are compared: a certificate has no other.
func (l *link) over() bool { return !l.end.IsZero() && time.Now().After(l.end) }

const (
	defaultKept = 64
	defaultAge  = 90 * time.Second
	defaultDial = 2 * time.Second

	defaultPatience = 30 * time.Second
)

// get is a connection that is idle, or a new one. Errors are the network's.
func (u *Upstream) get(ctx context.Context, fresh bool) (*link, error) {
	for !fresh {
		l := u.pop()
		if l == nil {
			break
		}
		if time.Since(l.since) < u.maxAge() && !l.over() && l.alive() {
			return l, nil
		}
		_ = l.Close()
	}
	l, err := u.dial(ctx)
	if err != nil {
		return nil, err
	}
	if u.TLS == nil {
		l.ground(l.Conn)
	} else if err := u.secure(ctx, l, u.dialTime()); err != nil {
		return nil, err
	}
	return l, nil
}

// dial makes a connection, on which get does the handshake where there is one.
func (u *Upstream) dial(ctx context.Context) (*link, error) {
	d := net.Dialer{Timeout: u.dialTime(), KeepAlive: 15 * time.Second}
	nc, err := u.Files.make(func() (net.Conn, error) { return d.DialContext(ctx, "tcp", u.Addr) })
	if err != nil {
		return nil, err
	}
	return &link{Conn: nc, files: u.Files}, nil
}

// Close implements net.Conn.
func (l *link) Close() error {
	err := l.Conn.Close()
	if !l.given.Swap(true) {
		l.files.give()
	}
	return err
}

func (u *Upstream) dialTime() time.Duration {
	if u.Dial <= 0 {
		return defaultDial
	}
	return u.Dial
}

// ground gives l a connection that goroutines wait on.
func (l *link) ground(nc net.Conn) {
	l.Conn = nc
	if sc, ok := nc.(syscall.Conn); ok {
		l.raw, _ = sc.SyscallConn() // nil where it fails: then alive says no
	}
	l.peek = func(fd uintptr) { l.quiet = !somethingThere(fd) }
}

// alive reports whether an idle connection is open and silent. Bytes that nobody
// asked for are no answer to the next request.
func (l *link) alive() bool {
	if l.raw == nil {
		return false
	}
	l.quiet = false
	if l.tls != nil && !l.tls.quiet() {
		return false
	}
	return l.raw.Control(l.peek) == nil && l.quiet
}

func (u *Upstream) maxAge() time.Duration {
	if u.MaxAge <= 0 {
		return defaultAge
	}
	return u.MaxAge
}

func (u *Upstream) patience() time.Duration {
	if u.Patience <= 0 {
		return defaultPatience
	}
	return u.Patience
}

func (u *Upstream) pop() *link {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.links)
	if n == 0 {
		return nil
	}
	l := u.links[n-1]
	u.links[n-1] = nil
	u.links = u.links[:n-1]
	return l
}

// put keeps a connection after a clean exchange.
func (u *Upstream) put(l *link) {
	most := u.Idle
	if most <= 0 {
		most = defaultKept
	}
	l.used, l.since = true, time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || len(u.links) >= most || l.over() {
		_ = l.Close()
		return
	}
	u.links = append(u.links, l)
	if !u.joined {
		u.joined = true
		u.Files.Join(u)
	}
	if u.sweeps == nil {
		u.sweeps = time.AfterFunc(u.maxAge(), u.sweep)
	}
}

// sweep closes what has been idle for too long.
func (u *Upstream) sweep() {
	u.mu.Lock()
	defer u.mu.Unlock()
	old := 0
	for old < len(u.links) && time.Since(u.links[old].since) >= u.maxAge() {
		_ = u.links[old].Close()
		old++
	}
	u.links = append(u.links[:0], u.links[old:]...)
	if u.sweeps = nil; len(u.links) > 0 && !u.closed {
		u.sweeps = time.AfterFunc(u.maxAge(), u.sweep)
	}
}

// Kept is how many connections are idle.
func (u *Upstream) Kept() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.links)
}

// DropIdle implements Keeper.
func (u *Upstream) DropIdle() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.links) == 0 {
		return 0
	}
	_ = u.links[0].Close()
	u.links = slices.Delete(u.links, 0, 1)
	return 1
}

// ended reports whether u was closed.
func (u *Upstream) ended() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.closed
}

// Close closes the connections that are idle; those in use are closed when their
// exchange ends.
func (u *Upstream) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.sweeps != nil {
		u.sweeps.Stop()
	}
	for _, l := range u.links {
		_ = l.Close()
	}
	u.links = nil
	if u.joined {
		u.Files.Leave(u)
	}
}
